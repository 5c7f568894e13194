"""What to know of a controlled comparison before its figures are used: sentences about the rows that need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Row = Mapping[str, Any]


def notes(content: Mapping[str, Any]) -> list[str]:
    """The sentences that hold of a comparison, whose content `contexts.read` gave."""
    rows: list[Row] = content["rows"]
    measured = [row for row in rows if row["slots_alive"] is not None]
    said = [*_shares(measured), *_pooled(measured, content["cards"]), *_full_attention(rows)]
    said += _named(content, "Step times still changed by a tenth when timing began", lambda row: row["steady"] is False)
    said += _named(
        content,
        "Held more or less memory when timing ended than when it began",
        lambda row: row.get("memory_steady") is False,
    )
    said += _named(
        content,
        "Built anew for each turn, because not all fit on the device together",
        lambda row: bool(row.get("rebuilt_each_round") or row.get("rebuilt")),
    )
    return said


def _shares(measured: list[Row]) -> list[str]:
    """What it is that a share of living memories shows."""
    if all(row["alive"] == 1 for row in measured):
        return []
    said = [
        "A share alive is the best case for giving memory back: what is alive is spread evenly, alike in all rows and "
        "layers. After training rows differ: in the impl reference the fullest decides what is allocated, in fast each "
        "has its own; a study's report shows both."
    ]
    if any(row["method"] == "expire_span" and row["alive"] < 1 for row in measured):
        said.append(
            "Expire-Span keeps its newest block allocated, alive or not, so a share of a context of few blocks gives "
            "back less."
        )
    return said


def _pooled(measured: list[Row], cards: Mapping[str, Row]) -> list[str]:
    """The methods that hold fewer slots than the positions that a context names."""
    found = {
        f"{row['slots_alive']:,.0f} slots for {row['context']:,} positions": cards[row["method"]]["title"]
        for row in measured
        if row["method"] == "compressive" and row["slots_alive"] < row["context"]
    }
    if not found:
        return []
    return [f"{next(iter(found.values()))} reaches as far with fewer slots, the older ones pooled: {', '.join(found)}."]


def _full_attention(rows: list[Row]) -> list[str]:
    """That full attention within a window is Transformer-XL by another path."""
    if not any(row["method"] == "full_attention" for row in rows):
        return []
    return [
        "Full attention sees as many positions as the context has, and no more: what Transformer-XL of that length "
        "computes, through another path."
    ]


def _named(content: Mapping[str, Any], what: str, which: Callable[[Row], bool]) -> list[str]:
    several = len({row["impl"] for row in content["rows"]}) > 1
    names = [
        f"{content['cards'][row['method']]['title']} ({row['impl'] + ', ' if several else ''}"
        f"{row['remembers']} alive) at {row['context']:,}"
        for row in content["rows"]
        if which(row)
    ]
    if len(names) > 1 and len(names) == len(content["rows"]):
        return [f"{what}: all of them."]
    return [f"{what}: {', '.join(names)}."] if names else []
