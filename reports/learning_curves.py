"""Learning curves: the task's metric on validation, and the training loss, against tokens read; where a task is acting,
the reward of training episodes, against their number. Where steps were timed, validation against time too.

One line per method: the mean over seeds, on validation with the range over seeds as a band. Losses are of single
batches, whose luck would hide the lines: they are drawn as means over stretches of the training, without bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.store import manifest
from bench.store.damaged import DamagedFile
from reports.drawing import Look, crop, figure, legend, levels, title
from reports.groups import Group
from reports.quality import QualityTable, floor_of

Curve = dict[int, list[float]]
"""Step to one value per seed."""

_LEFT_OUT = 0.05
"""The first part of training whose loss is not drawn: so steep that all that follows would be flat beside it."""
_STRETCHES = 32
"""Points of a line of losses at the most, each the mean over its stretch."""
_MARKS = 5
"""Markers on a line of losses, enough to tell it from the others without colour."""


def draw(
    study: Path, quality: QualityTable, looks: Mapping[str, Look], step_ms: Mapping[str, float | None]
) -> Figure | None:
    """The figure of one table; None where no cell has logged anything.

    Args:
        looks: of its lines, by label.
        step_ms: what the clock found a training step to take, in milliseconds, by label. What a cell took by itself
            is not drawn: others ran beside it.
    """
    groups = [line.group for line in quality.lines]
    validation = {group.label: _curve(study, group, "validation", quality.metric) for group in groups}
    acts = quality.objective == "episodes"
    training = {group.label: _curve(study, group, "train", "reward" if acts else "loss") for group in groups}
    if not any(training.values()) and not any(validation.values()):
        return None
    training = {group.label: _late(training[group.label], group) for group in groups}
    timed = {label: ms for label, ms in step_ms.items() if ms is not None and validation.get(label)}
    drawn, (left, right, *third) = figure(14.5 if timed else 10.0, 3.8, 3 if timed else 2)
    # What is drawn of each line, its end last.
    validated: dict[str, list[float]] = {}
    trained: dict[str, list[float]] = {}
    over_time: dict[str, list[float]] = {}
    for number, group in enumerate(groups):
        thousands, look = _per_step(group, acts) / 1000, looks[group.label]
        curve = validation[group.label]
        band = _band(left, curve, thousands, look)
        validated[group.label] = band + _line(left, curve, thousands, look)
        trained[group.label] = _line(right, training[group.label], thousands, look, (number, len(groups)))
        if group.label in timed:
            over_time[group.label] = _line(third[0], curve, timed[group.label] / 60_000, look)
    floor, levelled = floor_of(quality), quality.references.values()
    crop(right, trained, floor, higher_is_better=acts)
    crop(left, validated, floor, quality.higher_is_better, levelled)
    for axes in third:
        crop(axes, over_time, floor, quality.higher_is_better, levelled)
    for axes in (left, *third):
        levels(axes, {f"{name} ({quality.split})": value for name, value in quality.references.items()})
    unit = "episodes" if acts else "tokens"
    left.set_xlabel(f"training {unit} (thousands)")
    right.set_xlabel(f"training {unit} (thousands), the first {100 * _LEFT_OUT:.0f} % left out")
    bands = any(len(values) > 1 for curve in validation.values() for values in curve.values())
    title(left, f"{quality.heading}: validation")
    better = f"{quality.metric} ({quality.unit}), {'higher' if quality.higher_is_better else 'lower'} is better"
    left.set_ylabel(better)
    for axes in third:
        title(axes, "validation against time")
        axes.set_xlabel("minutes of training: steps at the time per batch")
        axes.set_ylabel(better)
    title(right, "training reward" if acts else "training loss")
    right.set_ylabel(f"{'reward per episode' if acts else 'loss (nats per target)'}, means over stretches")
    legend(drawn, left if any(validation.values()) else right, title="mean; band: range over seeds" if bands else "")
    return drawn


def alt(quality: QualityTable, timed: bool) -> str:
    """What the figure shows.

    Args:
        timed: whether steps were timed, and validation is drawn against time too.
    """
    trained, along = ("reward", "episodes") if quality.objective == "episodes" else ("loss", "tokens")
    return (
        f"Learning curves of {quality.heading}: validation {quality.metric} and training {trained} against training "
        f"{along}{', and validation against training time' if timed else ''}, one line per method"
    )


def _curve(study: Path, group: Group, split: str, metric: str) -> Curve:
    curve: Curve = {}
    for cell in group.cells["cell"]:
        try:
            records: Sequence[Mapping[str, Any]] = manifest.cell_folder(study, str(cell)).records()
        except DamagedFile:
            continue  # the page names it
        for record in records:
            if record["split"] == split and record["metric"] == metric:
                curve.setdefault(int(record["step"]), []).append(float(record["value"]))
    return curve


def _per_step(group: Group, acts: bool) -> int:
    """Episodes or tokens of a training step; a task of documents has their length among its settings."""
    train = group.spec["train"]
    read = group.spec["task_settings"].get("document_tokens", train["block_length"])
    return int(train["batch_size"]) * (1 if acts else int(read))


def _late(curve: Curve, group: Group) -> Curve:
    """A curve without the first steps of the training; all that comes later stays, however high."""
    first = _LEFT_OUT * int(group.spec["train"]["steps"])
    return {step: values for step, values in curve.items() if step > first}


def _line(axes: Axes, curve: Curve, per_step: float, look: Look, turn: tuple[int, int] | None = None) -> list[float]:
    """Draws a method's line, and returns its heights.

    Args:
        per_step: what a step is on the axis.
        turn: of a line of losses, its number and how many lines there are: each has its markers in other places.
    """
    if not curve:
        return []
    steps = sorted(curve)
    x, y = _along(steps, per_step), [fmean(curve[step]) for step in steps]
    how = look.keywords()
    if turn is not None:
        length = -(-len(steps) // _STRETCHES)
        x, y = ([fmean(part) for part in _parts(values, length)] for values in (x, y))
        number, lines = turn
        every = max(1, len(x) // _MARKS)
        how |= {"markevery": (number * every // lines, every)}
    axes.plot(x, y, **how)
    return y


def _along(steps: Sequence[int], per_step: float) -> list[float]:
    return [step * per_step for step in steps]


def _band(axes: Axes, curve: Curve, per_step: float, look: Look) -> list[float]:
    """Draws the range over seeds, if there are several, and returns its heights."""
    if max((len(values) for values in curve.values()), default=0) < 2:
        return []
    steps = sorted(curve)
    low, high = [min(curve[step]) for step in steps], [max(curve[step]) for step in steps]
    axes.fill_between(_along(steps, per_step), low, high, color=look.colour, alpha=0.15, linewidth=0)
    return low + high


def _parts(values: Sequence[float], length: int) -> list[Sequence[float]]:
    return [values[start : start + length] for start in range(0, len(values), length)]
