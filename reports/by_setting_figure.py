"""The figure of quality by setting: one line per method, with its interval where several seeds give one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reports.by_setting import Varied, number
from reports.drawing import figure, legend, levels, looks_of, percent, title
from reports.quality import QualityTable

_SPREAD = 0.08
"""How far lines stand to either side of a value, of the way to the next: those that are equal are to be seen."""


def draw(quality: QualityTable, varied: Varied, cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The figure of one table's score by one setting.

    Args:
        cards: of the methods, by id.
    """
    drawn, (axes,) = figure(7.6, 3.8)
    values, looks = varied.values(), looks_of({line.name: line.first for line in varied.lines}, cards)
    logarithmic = values[0] > 0
    for place, line in enumerate(varied.lines):
        scores = {value: point.score for value, point in line.points.items() if point.score is not None}
        if not scores:
            continue
        shift = _SPREAD * (2 * place - len(varied.lines) + 1) / len(varied.lines)
        x = [value * _nearest(values) ** shift if logarithmic else value + _nearest(values) * shift for value in scores]
        y, halves = [mean.value for mean in scores.values()], [mean.half for mean in scores.values()]
        axes.plot(x, y, **looks[line.name].keywords())
        if any(half is not None for half in halves):
            bars = [half or 0.0 for half in halves]
            axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=looks[line.name].colour, capsize=3)
    levels(axes, quality.references)
    if quality.unit == "%":
        percent(axes)
    if logarithmic:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values, [number(value) for value in values])
    axes.set_xlabel(varied.key)
    metric, better = quality.metric.replace("_", " "), "higher" if quality.higher_is_better else "lower"
    axes.set_ylabel(f"{quality.split} {metric} ({quality.unit}), {better} is better")
    title(axes, f"{quality.heading}: {metric} by {varied.field.replace('_', ' ')}")
    legend(drawn, axes)
    return drawn


def _nearest(values: Sequence[float]) -> float:
    """How far apart the two nearest values are, as a ratio where all are above 0."""
    pairs = list(pairwise(values))
    if values[0] > 0:
        return min((high / low for low, high in pairs), default=1.0)
    return min((high - low for low, high in pairs), default=0.0)


def alt(quality: QualityTable, varied: Varied) -> str:
    """What the figure shows."""
    return f"{quality.heading}: {quality.split} {quality.metric} against {varied.key}, one line per method"
