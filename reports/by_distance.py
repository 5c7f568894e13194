"""Quality by distance: how well a method answers, against how far back lies what it must remember.

Of each method and each bin the mean over seeds with its interval. A distance is a bin from a power of two to the next;
or some lengths of a corridor. Of the test split alone: a study that chooses by validation has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from reports.groups import Group, without_memory
from reports.parts import Bullets, Heading, Part, Table
from reports.quality import QualityTable, shown
from reports.references import WHO
from reports.statistics import FEWEST, Mean, mean_interval

_FEWEST = 30
"""Answers at a distance, of one seed, below which a value would be luck; about different places, if results say so."""
_OWN_AXIS: Mapping[str, str] = {
    "second_tries": "steps from the mistake to being back in the room",
    "accuracy_after": "distance ahead to what it depends on (tokens)",
}
"""By metric, what is measured instead of the way back to what must be remembered."""
_OWN_DOING = ("second_tries",)
"""Metrics of which an agent's ways decide how often it meets a distance."""


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
        metric: its name without ``_by_...``; unit: its unit; higher_is_better: of it.
        along: what it is measured against.
        axis: that in words, with its unit; distance_unit: its unit: tokens, steps, cells.
        values: by a line's label and the ends of a bin, one value per seed; only of bins with enough answers in all.
        references: by whom of `WHO`, and the ends of a bin: a mean over all cells.
        counts_sources: whether all results say of how many different places something was asked.
    """

    metric: str
    unit: str
    higher_is_better: bool
    along: Along
    axis: str
    distance_unit: str
    values: Mapping[str, Mapping[Ends, Sequence[float]]]
    references: Mapping[str, Mapping[Ends, float]]
    counts_sources: bool

    @property
    def words(self) -> str:
        """The metric's name as a reader is told it."""
        return self.metric.replace("_", " ")

    def ends(self) -> list[Ends]:
        """The bins that any line has, from near to far."""
        return sorted({ends for points in self.values.values() for ends in points})


def by_distance(quality: QualityTable) -> list[ByDistance]:
    """What a table's task has by distance, metric by metric, of those with two bins or more.

    Nothing where the split is not test.
    """
    if quality.split != "test":
        return []
    groups = [line.group for line in quality.lines]
    rows = pd.concat([group.rows for group in groups])
    found = [_by_distance(quality, groups, rows, metric, along) for metric, along in _measured(groups)]
    return [each for each in found if len(each.ends()) > 1]


def _by_distance(
    quality: QualityTable, groups: list[Group], rows: pd.DataFrame, metric: str, along: Along
) -> ByDistance:
    """One metric of the table's groups and all their rows."""
    its = rows[rows["metric"] == f"{metric}_by_{along.name}"]
    first = its.iloc[0]
    unit = along.unit or ("steps" if quality.objective == "episodes" else "tokens")
    return ByDistance(
        metric=metric,
        unit=str(first["unit"]),
        higher_is_better=bool(first["higher_is_better"]),
        along=along,
        axis=_OWN_AXIS.get(metric, f"{along.axis} ({unit})"),
        distance_unit=unit,
        values={group.label: _of_all_seeds(group, metric, along) for group in groups},
        references=_references(groups, metric, along),
        counts_sources=all(isinstance(context, dict) and "sources" in context for context in its["context"]),
    )


def _measured(groups: Iterable[Group]) -> list[tuple[str, Along]]:
    """The models' metrics by distance, each once, and what along."""
    names = dict.fromkeys(str(name) for group in groups for name in group.rows["metric"].unique())
    found = [
        (name.removesuffix(f"_by_{along.name}"), along)
        for name in names
        for along in _ALONG
        if name.endswith(f"_by_{along.name}")
    ]
    return [(metric, along) for metric, along in found if not metric.endswith(tuple(f"_{who}" for who in WHO))]


def _of_all_seeds(group: Group, metric: str, along: Along) -> dict[Ends, list[float]]:
    """By the ends of a bin, one value per seed; only of bins in which each seed has enough answers."""
    by_seed = _values(group, metric, along)
    bins = sorted(set.intersection(*(set(points) for points in by_seed.values()))) if by_seed else []
    return {ends: [points[ends] for points in by_seed.values()] for ends in bins}


def _references(groups: Iterable[Group], metric: str, along: Along) -> dict[str, dict[Ends, float]]:
    """What those of `WHO` score in each bin, mean over cells."""
    found: dict[str, dict[Ends, float]] = {}
    for who in WHO:
        values: dict[Ends, list[float]] = {}
        for group in groups:
            for points in _values(group, f"{metric}_{who}", along).values():
                for ends, value in points.items():
                    values.setdefault(ends, []).append(value)
        if values:
            found[who] = {ends: fmean(values[ends]) for ends in sorted(values)}
    return found


def _values(group: Group, metric: str, along: Along) -> dict[int, dict[Ends, float]]:
    """By seed and the ends of its bin, of the cells that have the metric; only bins with enough answers."""
    rows = group.rows
    rows = rows[(rows["metric"] == f"{metric}_by_{along.name}") & (rows["split"] == "test") & rows["value"].notna()]
    found: dict[int, dict[Ends, float]] = {}
    for seed, context, value, n in zip(rows["seed"], rows["context"], rows["value"], rows["n"], strict=True):
        points = found.setdefault(int(seed), {})
        ends = _ends(context, along)
        if ends is not None and int(context.get("sources", n)) >= _FEWEST:
            points[ends] = float(value)
    return found


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
    lines = []
    for line in quality.lines:
        points = found.values[line.group.label]
        values = (shown(mean_interval(points[ends]) if ends in points else None, found.unit) for ends in bins)
        lines.append((f"{line.group.label}{' (stale)' if line.stale else ''}", *values))
    for who, reference in found.references.items():
        one = (Mean(reference[ends], None, 1) if ends in reference else None for ends in bins)
        lines.append((who, *(shown(mean, found.unit) for mean in one)))
    arrow = "↑" if found.higher_is_better else "↓"
    corner = f"{found.words} ({found.unit}) {arrow} by {found.along.name} ({found.distance_unit})"
    return [
        Heading(3, f"{quality.heading}: {found.words} by {found.along.name}"),
        Table((corner, *(in_words(ends) for ends in bins)), tuple(lines)),
        Bullets(tuple(_reading(quality, found))),
    ]


def _reading(quality: QualityTable, found: ByDistance) -> list[str]:
    """What the table's figures are, in sentences."""
    sentences = [
        f"By {found.axis}. A bin in which a seed has fewer than {_FEWEST} answers"
        f"{', those about the same place counted once,' if found.counts_sources else ''} is left out for all seeds."
    ]
    if found.metric in _OWN_DOING:
        sentences.append(
            "An agent that takes longer ways is back later: how often it meets a distance is its own doing."
        )
    if found.along.powers:
        sentences.append(_blocks(quality, found))
    most = max(len(values) for points in found.values.values() for values in points.values())
    if most >= FEWEST:
        sentences.append(
            "± is half a Student-t 95 % interval over seeds, of each bin by itself and not corrected for their number; "
            "the choice of the test, which all seeds share, is not in it."
        )
    else:
        sentences.append(f"Fewer than {FEWEST} seeds: no interval.")
    return sentences


def _labels_by_block(quality: QualityTable) -> dict[int, list[str]]:
    """By the length of their blocks, the labels of those that remember anything between them."""
    labels: dict[int, list[str]] = {}
    for line in quality.lines:
        if not without_memory(line.group.spec):
            labels.setdefault(int(line.group.spec["train"]["block_length"]), []).append(line.group.label)
    return labels


def usual_block(quality: QualityTable) -> int | None:
    """The length of most methods' blocks; None where none remembers anything between them."""
    labels = _labels_by_block(quality)
    return max(labels, key=lambda each: len(labels[each]), default=None)


def _blocks(quality: QualityTable, found: ByDistance) -> str:
    """How long the blocks are."""
    labels, length = _labels_by_block(quality), usual_block(quality)
    if length is None:
        return "Without memory each block stands alone."
    text = f"A block has {length} {_counted(found, length)}"
    others = [f"{each} with {', '.join(labels[each])}" for each in sorted(labels) if each != length]
    text += f" ({'; '.join(others)})" if others else ""
    return f"{text}: from {4 * length} on, what must be remembered is four blocks away."


def _counted(found: ByDistance, number: int) -> str:
    """The unit of distance after a number."""
    return found.distance_unit.removesuffix("s") if number == 1 else found.distance_unit
