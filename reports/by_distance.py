"""Quality by distance: how well a method answers, against how far back lies what it must remember.

Of each method and each bin the mean over seeds with its interval. A distance is a bin from a power of two to the next;
or some lengths of a corridor. Of the test split alone: a sweep, which chooses by validation, has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.groups import Group
from reports.parts import Bullets, Heading, Part, Table
from reports.quality import QualityTable, shown
from reports.references import references
from reports.statistics import FEWEST, Mean, mean_interval

_FEWEST = 30
"""Answers at a distance, of one seed, below which a value would be luck."""


@dataclass(frozen=True)
class Along:
    """What quality is measured against.

    Args:
        name: how a metric's name ends after ``_by_``, and what its context's ends begin with.
        axis: what it is called.
        unit: of it; empty for tokens of a stream, steps of an episode.
        powers: whether bins are powers of two.
    """

    name: str
    axis: str
    unit: str
    powers: bool


_ALONG = (
    Along("distance", "distance back to what must be remembered", "", powers=True),
    Along("length", "length", "cells", powers=False),
)

Ends = tuple[int, int]
"""The least and the greatest distance of a bin."""


@dataclass(frozen=True)
class ByDistance:
    """A table's task by distance.

    Args:
        metric: its name without ``_by_...``; unit: its unit; along: what it is measured against.
        where: the unit of `along`: tokens, steps, cells.
        values: by a line's label and the ends of a bin, one value per seed; only of bins with enough answers.
        references: of the same metric, see `reports.references`.
    """

    metric: str
    unit: str
    along: Along
    where: str
    values: Mapping[str, Mapping[Ends, list[float]]]
    references: Mapping[str, float]

    def ends(self) -> list[Ends]:
        """The bins that any line has, from near to far."""
        return sorted({ends for points in self.values.values() for ends in points})


def by_distance(quality: QualityTable) -> ByDistance | None:
    """The first metric that a table's task has by distance; None where it has none, or the split is not test."""
    if quality.split != "test":
        return None
    groups = [line.group for line in quality.lines]
    for group in groups:
        for name in group.rows["metric"].unique():
            for along in _ALONG:
                metric = str(name).removesuffix(f"_by_{along.name}")
                if metric == str(name):
                    continue
                values = {each.label: _values(each, metric, along) for each in groups}
                if not any(values.values()):
                    return None
                unit = str(group.rows[group.rows["metric"] == name]["unit"].iloc[0])
                where = along.unit or ("steps" if quality.objective == "episodes" else "tokens")
                return ByDistance(metric, unit, along, where, values, references(groups, metric, quality.split))
    return None


def _values(group: Group, metric: str, along: Along) -> dict[Ends, list[float]]:
    """By the ends of its bin; only bins with enough answers."""
    rows = group.rows
    rows = rows[(rows["metric"] == f"{metric}_by_{along.name}") & (rows["split"] == "test") & rows["value"].notna()]
    found: dict[Ends, list[float]] = {}
    for context, value, n in zip(rows["context"], rows["value"], rows["n"], strict=True):
        ends = _ends(context, along)
        if ends is not None and int(n) >= _FEWEST:
            found.setdefault(ends, []).append(float(value))
    return {ends: found[ends] for ends in sorted(found)}


def _ends(context: Any, along: Along) -> Ends | None:
    """The ends of a row's bin; None where it does not say."""
    names = (f"{along.name}_min", f"{along.name}_max")
    if not isinstance(context, dict) or not all(name in context for name in names):
        return None
    low, high = (int(context[name]) for name in names)
    return low, high


def in_words(ends: Ends) -> str:
    """A bin, such as ``16-31``."""
    low, high = ends
    return f"{low:,}-{high:,}" if high > low else f"{low:,}"


def by_distance_parts(quality: QualityTable, found: ByDistance) -> list[Part]:
    """The table as it is shown, and how to read it."""
    bins = found.ends()
    lines = [
        (label, *(shown(mean_interval(points[ends]) if ends in points else None, found.unit) for ends in bins))
        for label, points in found.values.items()
    ]
    lines += [(who, *[shown(Mean(value, None, 1), found.unit)] * len(bins)) for who, value in found.references.items()]
    arrow = "↑" if quality.higher_is_better else "↓"
    corner = f"{found.metric} ({found.unit}) {arrow} by {found.along.name} ({found.where})"
    table = Table((corner, *(in_words(ends) for ends in bins)), tuple(lines))
    return [
        Heading(3, f"{quality.heading}: {found.metric} by {found.along.name}"),
        table,
        Bullets(tuple(_reading(quality, found))),
    ]


def _reading(quality: QualityTable, found: ByDistance) -> list[str]:
    """What the table's figures are, in sentences."""
    sentences = [f"By {found.along.axis}; values of fewer than {_FEWEST} are left out."]
    lengths = sorted({line.group.spec["train"]["block_length"] for line in quality.lines})
    if found.along.powers:
        blocks = " or ".join(f"{length}" for length in lengths)
        four = " or ".join(f"{4 * length}" for length in lengths)
        sentences.append(f"Blocks have {blocks} {found.where}: what lies {four} or more back is four blocks away.")
    most = max(len(values) for points in found.values.values() for values in points.values())
    if most >= FEWEST:
        sentences.append("± is half a Student-t 95 % interval over seeds.")
    return sentences
