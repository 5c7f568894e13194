"""Lists the tasks, methods and presets that exist, with one line each.

Reads their cards from the source: nothing is imported, so that a method whose dependency is missing is listed too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from bench import presets
from models.registry import METHODS
from tasks.registry import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as --quiet")


def run(args: argparse.Namespace) -> int:
    tasks = {name: TASKS.card(name) for name in TASKS.names()}
    methods = {name: METHODS.card(name) for name in METHODS.names()}
    if not (args.quiet or args.json):
        rows = [
            (
                "tasks",
                [
                    (name, f"{card['title']}: {card['metric']}, {_direction(card['higher_is_better'])} is better")
                    for name, card in tasks.items()
                ],
            ),
            (
                "methods",
                [
                    (name, f"{card['title']} ({card['family']}; {card['paper']}): {', '.join(card['impls'])}")
                    for name, card in methods.items()
                ],
            ),
            (
                "cost per token of a layer (FLOPs, forward) and state (numbers per stream); E width, H heads, D head "
                "width, T block length, S slots allocated, B rows",
                [
                    (f"{name}:" if number == 0 else "", line)
                    for name, card in methods.items()
                    for number, line in enumerate(_formulas(card))
                ],
            ),
            ("presets", [(name, presets.about(name)) for name in presets.names()]),
        ]
        width = max(len(name) for _, lines in rows for name, _ in lines)
        for heading, lines in rows:
            print(heading)
            for name, about in lines:
                print(f"  {name:<{width}}  {about}")
            print()
    listing = {
        "tasks": [
            {
                "id": name,
                "title": card["title"],
                "metric": card["metric"],
                "unit": card["unit"],
                "higher_is_better": card["higher_is_better"],
                "sizes": card["sizes"],
            }
            for name, card in tasks.items()
        ],
        "methods": [
            {
                "id": name,
                "title": card["title"],
                "family": card["family"],
                "paper": card["paper"],
                "impls": card["impls"],
                **{key: card.get(key) for key in ("cost", "state", "symbols")},
            }
            for name, card in methods.items()
        ],
        "presets": presets.names(),
    }
    print(json.dumps(listing))
    return 0


def _direction(higher_is_better: bool) -> str:
    return "higher" if higher_is_better else "lower"


def _formulas(card: Mapping[str, Any]) -> list[str]:
    """A method's cost and state as its card states them; the names that they use are settings or sizes."""
    if "cost" not in card:
        return ["not stated"]
    symbols = "; ".join(f"{name} = {meaning}" for name, meaning in card.get("symbols", {}).items())
    return [f"cost   {card['cost']}", f"state  {card['state']}", *([f"where  {symbols}"] if symbols else [])]
