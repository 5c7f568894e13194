"""Which lines of a table differ from which: each against each, paired by seed, corrected for the number of pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from reports.quality import Line, QualityTable
from reports.statistics import Difference, holm, paired_difference

SHOWN = 0.05
"""The corrected p value below which a difference is called shown."""

_COLUMNS = ("table", "label", "other", "difference", "half_interval", "p", "p_holm", "n")


@dataclass(frozen=True)
class Pair:
    """Two lines, in the table's order, and the difference of their scores, the first minus the second.

    Args:
        p: of the difference by itself; that of `difference` is corrected.
    """

    first: Line
    second: Line
    difference: Difference
    p: float


def pairs(quality: QualityTable) -> list[Pair]:
    """All pairs of lines that share as many seeds as an interval needs; none where settings are being chosen."""
    if quality.split != "test":
        return []
    scored = [(line, line.group.values(quality.metric, quality.split)) for line in quality.lines]
    found = []
    for (first, ours), (second, theirs) in itertools.combinations(scored, 2):
        difference = paired_difference(ours, theirs)
        if difference is not None and difference.p is not None:
            found.append(Pair(first, second, difference, difference.p))
    corrected = holm([pair.p for pair in found])
    return [
        replace(pair, difference=Difference(pair.difference.mean, p)) for pair, p in zip(found, corrected, strict=True)
    ]


def sentence(quality: QualityTable) -> str:
    """Which pairs differ, in words; empty where none can be told apart, for want of seeds or of a second line."""
    found = pairs(quality)
    if len(found) < 2:  # one pair is what the table itself shows
        return ""
    apart: dict[str, list[str]] = {}
    for pair in found:
        if pair.difference.p is not None and pair.difference.p < SHOWN:
            ahead = (pair.difference.mean.value > 0) == quality.higher_is_better
            better, worse = (pair.first, pair.second) if ahead else (pair.second, pair.first)
            apart.setdefault(better.group.label, []).append(worse.group.label)
    told = "; ".join(f"{name} is better than {_listed(others)}" for name, others in apart.items())
    return (
        f"Each against each, paired by seed, with p values Holm-corrected for all {len(found)} pairs: "
        f"{told or 'no difference is shown'} (p < {SHOWN:g}; all are in pairs.csv)."
    )


def pairs_frame(tables: Iterable[QualityTable]) -> pd.DataFrame:
    """All pairs of all tables: the difference of their scores with half its 95 % interval, p alone and corrected."""
    rows = [
        (
            quality.heading,
            pair.first.group.label,
            pair.second.group.label,
            pair.difference.mean.value,
            pair.difference.mean.half,
            pair.p,
            pair.difference.p,
            pair.difference.mean.n,
        )
        for quality in tables
        for pair in pairs(quality)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
