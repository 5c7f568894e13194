"""Quality by distance: how well a method answers, against how far back lies what it must remember.

One line per method, the mean over seeds, with the range over seeds as a band. A distance is a bin from a power of two
to the next, whose point stands in its middle; or some lengths of a corridor. What a memory of a certain length can
reach ends where its line falls. Of the test split alone: a sweep, which chooses by validation, has no such figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.drawing import Look, figure, legend, levels, title
from reports.groups import Group
from reports.quality import QualityTable
from reports.references import references

_FEWEST = 30
"""Answers at a distance, of one seed, below which a point would be luck."""


@dataclass(frozen=True)
class Along:
    """What quality is drawn against.

    Args:
        name: how a metric's name ends after ``_by_``, and what its context's ends begin with.
        axis: what the axis is called.
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

Points = dict[tuple[int, int], list[float]]
"""The ends of a bin to one value per seed."""


def draw(quality: QualityTable, looks: Mapping[str, Look]) -> Figure | None:
    """The figure of one table; None where its task has no distances, or its split is not test."""
    found = _drawn(quality)
    if found is None:
        return None
    metric, along = found
    curves = {line.group.label: _points(line.group, metric, along) for line in quality.lines}
    if not any(curves.values()):
        return None
    drawn, (axes,) = figure(7.6, 3.8)
    for label, points in curves.items():
        if not points:
            continue
        x = [_middle(ends, along) for ends in points]
        axes.plot(x, [fmean(values) for values in points.values()], **looks[label].keywords())
        if max(len(values) for values in points.values()) > 1:
            low, high = [min(values) for values in points.values()], [max(values) for values in points.values()]
            axes.fill_between(x, low, high, color=looks[label].colour, alpha=0.15, linewidth=0)
    groups = [line.group for line in quality.lines]
    levels(axes, references(groups, metric, quality.split))
    unit = _unit(quality, metric, along)
    if unit == "%" and axes.get_ylim()[1] < 1:  # where nobody has got anything right
        axes.set_ylim(0, 10)
    if along.powers:
        axes.set_xscale("log", base=2)
    names = {_middle(ends, along): _text(*ends) for points in curves.values() for ends in points}
    axes.xaxis.set_major_locator(FixedLocator(sorted(names)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(x, "")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelrotation=30 if len(names) > 6 else 0)
    axes.set_xlabel(_axis(quality, along))
    axes.set_ylabel(f"{metric} ({unit}), {'higher' if quality.higher_is_better else 'lower'} is better")
    title(axes, f"{quality.heading}: {metric} by {along.name}")
    bands = any(len(values) > 1 for points in curves.values() for values in points.values())
    legend(drawn, axes, title="mean; band: range over seeds" if bands else "")
    return drawn


def alt(quality: QualityTable) -> str:
    """What the figure shows."""
    found = _drawn(quality)
    assert found is not None
    return f"{quality.heading}: {found[0]} against {_axis(quality, found[1])}, one line per method"


def _axis(quality: QualityTable, along: Along) -> str:
    unit = along.unit or ("steps" if quality.objective == "episodes" else "tokens")
    return f"{along.axis} ({unit})"


def _unit(quality: QualityTable, metric: str, along: Along) -> str:
    """The unit of a metric by distance, which need not be that of the table's."""
    for line in quality.lines:
        rows = line.group.rows
        for unit in rows[rows["metric"] == f"{metric}_by_{along.name}"]["unit"]:
            return str(unit)
    raise ValueError(f"no line has {metric} by {along.name}")


def _drawn(quality: QualityTable) -> tuple[str, Along] | None:
    """The first metric that the task has by distance, and along what."""
    if quality.split != "test":
        return None
    for line in quality.lines:
        for name in line.group.rows["metric"].unique():
            for along in _ALONG:
                if str(name).endswith(f"_by_{along.name}"):
                    return str(name).removesuffix(f"_by_{along.name}"), along
    return None


def _middle(ends: tuple[int, int], along: Along) -> float:
    low, high = ends
    return math.sqrt(max(low, 1) * max(high, 1)) if along.powers else (low + high) / 2


def _text(low: int, high: int) -> str:
    return f"{low:,}-{high:,}" if high > low else f"{low:,}"


def _points(group: Group, metric: str, along: Along) -> Points:
    """By the ends of its bin; only bins with enough answers."""
    rows = group.rows
    rows = rows[(rows["metric"] == f"{metric}_by_{along.name}") & (rows["split"] == "test") & rows["value"].notna()]
    found: Points = {}
    for context, value, n in zip(rows["context"], rows["value"], rows["n"], strict=True):
        ends = _ends(context, along)
        if ends is not None and int(n) >= _FEWEST:
            found.setdefault(ends, []).append(float(value))
    return {ends: found[ends] for ends in sorted(found)}


def _ends(context: Any, along: Along) -> tuple[int, int] | None:
    """The ends of a row's bin; None where it does not say."""
    names = (f"{along.name}_min", f"{along.name}_max")
    if not isinstance(context, dict) or not all(name in context for name in names):
        return None
    low, high = (int(context[name]) for name in names)
    return low, high
