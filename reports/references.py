"""What a score is read against: one who knows all, the best without memory, and luck; and when a task counts as solved.

A task scores them itself, beside the model: ``<metric>_oracle``, ``<metric>_reactive``, ``<metric>_chance``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from reports.groups import Group

WHO = {
    "oracle": "one who knows the full state",
    "reactive": "the most that a policy can have which remembers nothing, each step alone",
    "chance": "one who draws any action, or always gives the same answer",
}
"""Who is scored beside the models, from best to worst."""


def references(groups: Sequence[Group], metric: str, split: str) -> dict[str, float]:
    """The scores of those of `WHO` that a table's task has, mean over cells."""
    found = {}
    for who in WHO:
        values = [value for group in groups for value in group.values(f"{metric}_{who}", split).values()]
        if values:
            found[who] = fmean(values)
    return found


def solved_at(card: Mapping[str, Any], found: Mapping[str, float]) -> float | None:
    """The score from which a seed has solved a task: the card's share of what one who knows all scores.

    That is 100 where nobody of that name is scored and the metric is a percentage. None where the card has no share.
    """
    share = card.get("solved")
    ceiling = found.get("oracle", 100.0 if card["unit"] == "%" else None)
    return None if share is None or ceiling is None else float(share) * ceiling


def further_metrics(groups: Sequence[Group], metric: str, unit: str, split: str) -> list[str]:
    """What else a table's task measures of a whole split in the metric's unit; neither by distance nor of `WHO`."""
    rows = pd.concat([group.rows for group in groups])
    rows = rows[(rows["split"] == split) & (rows["unit"] == unit) & rows["value"].notna()]
    left_out = {metric, *(f"{metric}_{who}" for who in WHO)}
    return [name for name in dict.fromkeys(rows["metric"]) if "_by_" not in name and name not in left_out]
