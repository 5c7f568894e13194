"""What a `CARD` must hold: which keys, and what kind of value under each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEVICES = ("cpu", "cuda", "mps")
Kinds = Mapping[str, type]
"""Key to kind: `str` for text, `bool`, `int` for a whole number from 1, `list` for one or more different names."""

_WORDS: dict[type, str] = {
    str: "text that is not empty",
    bool: "True or False",
    int: "a whole number, 1 or more",
    list: "a list of one or more different names",
}


def problem(card: Mapping[str, Any], kinds: Kinds) -> str | None:
    """What is wrong with a card, such as ``lacks family`` or ``has impls [], not a list of ...``; None if nothing.

    Keys beside those of `kinds` are allowed.
    """
    missing = [key for key in kinds if key not in card]
    if missing:
        return f"lacks {', '.join(missing)}"
    for key, kind in kinds.items():
        if not _fits(card[key], kind):
            return f"has {key} {card[key]!r}, not {_WORDS[kind]}"
    if "solved" in card:
        share = card["solved"]
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            return f"has solved {share!r}, not a number above 0 and at most 1"
        if card.get("higher_is_better") is not True:
            return "has solved, the share of the best possible score, though lower is better"
    auto = card.get("auto", {})
    known = card.get("impls", [])
    if not isinstance(auto, dict) or any(key not in DEVICES or value not in known for key, value in auto.items()):
        return f"has auto {auto!r}, not a dictionary from {', '.join(DEVICES)} to some of its impls"
    return None


def chosen_impl(card: Mapping[str, Any], device: str) -> tuple[str, str | None]:
    """The impl that `auto` stands for on a device (cpu, cuda, mps), and what a user should know of that choice.

    It is the one that a method's card names for the device in `auto`, as the fastest that is proven there; where it
    names none, the first of its `impls`, and it is said so if there are others.
    """
    first, *others = card["impls"]
    named = card.get("auto", {}).get(device)
    if named is not None or not others:
        return str(named or first), None
    return str(first), f"{first}, as its card names no impl for {device}; it also has {', '.join(others)}"


def _fits(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and value >= 1
    if kind is list:
        names = isinstance(value, list) and all(isinstance(name, str) and name.strip() for name in value)
        return bool(names and value and len(set(value)) == len(value))
    if isinstance(value, str):
        return kind is str and bool(value.strip())
    return isinstance(value, kind)
