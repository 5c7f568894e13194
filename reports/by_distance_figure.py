"""The figure of quality by distance: one line per method, the mean over seeds, with their range as a band.

A bin's point stands in its middle. What a memory of a certain length can reach ends where its line falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reports.by_distance import ByDistance, Ends, in_words, usual_block
from reports.drawing import Look, figure, legend, levels, path, title, upright
from reports.quality import QualityTable


def draw(quality: QualityTable, found: ByDistance, looks: Mapping[str, Look]) -> Figure:
    """The figure of one table's task by distance."""
    drawn, (axes,) = figure(7.6, 3.8)
    for label, points in found.values.items():
        if not points:
            continue
        x = [_middle(ends, found) for ends in points]
        axes.plot(x, [fmean(values) for values in points.values()], **looks[label].keywords())
        if max(len(values) for values in points.values()) > 1:
            low, high = [min(values) for values in points.values()], [max(values) for values in points.values()]
            axes.fill_between(x, low, high, color=looks[label].colour, alpha=0.15, linewidth=0)
    for who, reference in found.references.items():
        if len(set(reference.values())) == 1:
            levels(axes, {who: next(iter(reference.values()))})
        else:
            path(axes, who, [_middle(ends, found) for ends in reference], list(reference.values()))
    if found.unit == "%" and axes.get_ylim()[1] < 1:  # where nobody has got anything right
        axes.set_ylim(0, 10)
    if found.along.powers:
        axes.set_xscale("log", base=2)
        length = usual_block(quality)
        if length is not None and found.ends()[0][0] < 4 * length < found.ends()[-1][1]:
            upright(axes, "four blocks", 4 * length)
    names = {_middle(ends, found): in_words(ends) for ends in found.ends()}
    axes.xaxis.set_minor_locator(NullLocator())
    slanted: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(names) > 6 else {}
    axes.set_xticks(list(names), names.values(), **slanted)
    axes.set_xlabel(found.axis)
    axes.set_ylabel(f"{found.words} ({found.unit}), {'higher' if found.higher_is_better else 'lower'} is better")
    title(axes, f"{quality.heading}: {found.words} by {found.along.name}")
    bands = any(len(values) > 1 for points in found.values.values() for values in points.values())
    legend(drawn, axes, title="mean; band: range over seeds" if bands else "")
    return drawn


def alt(quality: QualityTable, found: ByDistance) -> str:
    """What the figure shows."""
    return f"{quality.heading}: {found.words} against {found.axis}, one line per method"


def _middle(ends: Ends, found: ByDistance) -> float:
    low, high = ends
    return math.sqrt(max(low, 1) * max(high, 1)) if found.along.powers else (low + high) / 2
