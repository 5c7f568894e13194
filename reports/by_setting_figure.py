"""The figure of quality by setting: one line per method, with its interval where several seeds give one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.by_setting import Varied
from reports.drawing import figure, legend, levels, looks_of, title
from reports.quality import QualityTable


def draw(quality: QualityTable, varied: Varied, cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The figure of one table's score by one setting.

    Args:
        cards: of the methods, by id.
    """
    drawn, (axes,) = figure(7.6, 3.8)
    firsts = {name: next(iter(line.values())) for name, line in varied.lines.items()}
    looks = looks_of(firsts, cards)
    for name, scores in varied.scores.items():
        if not scores:
            continue
        x, y = list(scores), [mean.value for mean in scores.values()]
        axes.plot(x, y, **looks[name].keywords())
        halves = [mean.half for mean in scores.values()]
        if any(half is not None for half in halves):
            axes.errorbar(x, y, yerr=[half or 0.0 for half in halves], fmt="none", ecolor=looks[name].colour, capsize=3)
    levels(axes, quality.references)
    values = varied.values()
    if values[0] > 0:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(varied.key)
    better = "higher" if quality.higher_is_better else "lower"
    axes.set_ylabel(f"{quality.split} {quality.metric} ({quality.unit}), {better} is better")
    title(axes, f"{quality.heading}: {quality.metric} by {varied.field.replace('_', ' ')}")
    legend(drawn, axes)
    return drawn


def alt(quality: QualityTable, varied: Varied) -> str:
    """What the figure shows."""
    return f"{quality.heading}: {quality.split} {quality.metric} against {varied.key}, one line per method"
