"""Quality against what it costs: peak memory and time per batch of every method, each measured on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from reports.drawing import Look, crop, figure, legend, percent, title
from reports.efficiency import EfficiencyTable
from reports.efficiency_part import MB
from reports.quality import floor_of
from reports.statistics import Mean


def alt(efficiency: EfficiencyTable) -> str:
    """What the figure shows."""
    quality = efficiency.quality
    return (
        f"{quality.heading}: {quality.split} {quality.metric} against peak memory in training and against time per "
        "batch, one point per method"
    )


def draw(efficiency: EfficiencyTable, looks: Mapping[str, Look]) -> Figure | None:
    """The figure of one table; None where nothing has both a quality and a cost."""
    lines = [line for line in efficiency.lines if line.line.score is not None]
    if not any(line.memory.value is not None or line.time.value is not None for line in lines):
        return None
    quality = efficiency.quality
    drawn, (left, right) = figure(10.0, 3.8, 2)
    for line in lines:
        score, look = line.line.score, looks[line.line.group.label]
        assert score is not None
        point: dict[str, Any] = {
            "color": look.colour,
            "marker": look.marker,
            "label": look.label,
            "linestyle": "none",
            "capsize": 3,
            "elinewidth": 1.0,
        }
        hollow: dict[str, Any] = {} if look.filled else {"markerfacecolor": "white"}
        if line.memory.value is not None:
            left.errorbar([line.memory.value / MB], [score.value], yerr=score.half, **point, **hollow)
        if line.time.value is not None:
            spread = None
            if line.time.low is not None and line.time.high is not None:
                spread = [[line.time.value - line.time.low], [line.time.high - line.time.value]]
            right.errorbar([line.time.value], [score.value], yerr=score.half, xerr=spread, **point, **hollow)
    for axes, measured in (
        (left, [line.line for line in lines if line.memory.value is not None]),
        (right, [line.line for line in lines if line.time.value is not None]),
    ):
        extents = {line.group.label: _extent(line.score) for line in measured if line.score is not None}
        crop(axes, extents, floor_of(quality), quality.higher_is_better)
    better = "higher" if quality.higher_is_better else "lower"
    title(left, quality.heading)
    left.set_xlabel("peak memory in training (MB)")
    right.set_xlabel("time per batch (ms)")
    for axes in (left, right):
        if quality.unit == "%":
            percent(axes)
        axes.set_ylabel(f"{quality.split} {quality.metric} ({quality.unit}), {better} is better")
    legend(drawn, left if left.get_legend_handles_labels()[0] else right, length=1.5)
    return drawn


def _extent(score: Mean) -> list[float]:
    """What is drawn of a score: its interval, and last itself."""
    half = score.half or 0.0
    return [score.value - half, score.value + half, score.value]
