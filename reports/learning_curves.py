"""Learning curves: the task's metric on validation, and the training loss, against tokens read.

One line per method: the mean over seeds, with the range over seeds as a band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.store import manifest
from bench.store.damaged import DamagedFile
from reports.drawing import Look, figure, legend, title
from reports.groups import Group
from reports.quality import QualityTable

Curve = dict[int, list[float]]
"""Step to one value per seed."""


def draw(study: Path, quality: QualityTable, looks: Mapping[str, Look]) -> Figure | None:
    """The figure of one table; None where no cell has logged anything."""
    groups = [line.group for line in quality.lines]
    validation = {group.label: _curve(study, group, "validation", quality.metric) for group in groups}
    training = {group.label: _curve(study, group, "train", "loss") for group in groups}
    if not any(training.values()) and not any(validation.values()):
        return None
    drawn, (left, right) = figure(10.0, 3.8, 2)
    for axes, curves, marked in ((left, validation, True), (right, training, False)):
        for group in groups:
            _line(axes, curves[group.label], _tokens_per_step(group), looks[group.label], marked)
        axes.set_xlabel("training tokens (thousands)")
    title(left, f"{quality.heading}: validation")
    left.set_ylabel(f"{quality.metric} ({quality.unit}), {'higher' if quality.higher_is_better else 'lower'} is better")
    title(right, "training loss")
    right.set_ylabel("loss (nats per target)")
    _trim(right, [value for curve in training.values() for values in curve.values() for value in values])
    legend(drawn, left if any(validation.values()) else right)
    return drawn


def alt(quality: QualityTable) -> str:
    """What the figure shows."""
    return (
        f"Learning curves of {quality.heading}: validation {quality.metric} and training loss against training tokens, "
        "one line per method"
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


def _tokens_per_step(group: Group) -> int:
    train = group.spec["train"]
    return int(train["batch_size"]) * int(train["block_length"])


def _line(axes: Axes, curve: Curve, tokens: int, look: Look, marked: bool) -> None:
    if not curve:
        return
    steps = sorted(curve)
    x = [step * tokens / 1000 for step in steps]
    axes.plot(x, [sum(curve[step]) / len(curve[step]) for step in steps], **look.keywords(marked))
    if max(len(values) for values in curve.values()) > 1:
        low, high = [min(curve[step]) for step in steps], [max(curve[step]) for step in steps]
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)


def _trim(axes: Axes, values: list[float]) -> None:
    """Leaves the first steep part out of sight, where the later one would be flat for it."""
    if len(values) > 20:
        ordered = sorted(values)
        low, high = ordered[0], ordered[int(0.95 * (len(ordered) - 1))]
        margin = 0.05 * (high - low)
        axes.set_ylim(low - margin, high + margin)
