"""The quality table: the task's metric of every method, what it remembered for it, and how large it is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.store.statuses import RESULTS, Status
from reports.groups import Group, without_memory
from reports.parts import Table
from reports.references import further_metrics, references, solved_at
from reports.statistics import Difference, Mean, holm, mean_interval, paired_difference

_ENDED = RESULTS - {Status.UNSUPPORTED, Status.PRUNED}
BASELINE = "transformer_xl"
TOLERANCE = 0.10  # of the parameter count that the others are compared with


@dataclass(frozen=True)
class Line:
    """One method's figures; None where nothing was measured."""

    group: Group
    cells: int
    failed: int
    ended: int
    """Cells that were trained to an end, good or not."""
    stale: int
    test: Mean | None
    validation: Mean | None
    score: Mean | None
    """Of the table's split."""
    difference: Difference | None
    parameters: float | None
    slots_alive: float | None
    slots_allocated: float | None
    state_bytes: float | None
    flops_per_token: float | None
    """Of all layers' forward pass, by the formula of the method's card."""
    mean_span: float | None
    mean_age: float | None
    """Of what a memory that chooses holds, in tokens."""
    solved: int | None
    """Seeds whose score counts as having solved the task; None where none has a score or the task does not say."""
    further: dict[str, Mean]
    """What else the task measures, by metric."""


@dataclass(frozen=True)
class QualityTable:
    """All lines of one comparison, best first, those without a result last.

    Args:
        split: whose scores are shown and order the lines: ``test``, or ``validation`` where settings are being chosen.
        objective: the task's, ``streams`` or ``episodes``; empty where a lost manifest has taken it along.
        baseline: what differences and ratios are to; None where there is none, or where settings are being chosen.
        further: names of what else the task measures, in the metric's unit.
        references: scores of one who knows all, of the best without memory, and of luck, see `references.WHO`.
        solved_at: the score from which a seed has solved the task; None where the task does not say.
    """

    heading: str
    split: str
    metric: str
    unit: str
    higher_is_better: bool
    objective: str
    baseline: Group | None
    lines: list[Line]
    further: list[str]
    references: dict[str, float]
    solved_at: float | None

    @property
    def usual_parameters(self) -> float | None:
        """The parameter count that models are compared with: the baseline's, or without one the table's median."""
        counts = [line.parameters for line in self.lines if line.parameters is not None]
        own = _value(self.baseline, "parameters") if self.baseline is not None else None
        return own if own is not None else statistics.median(counts) if counts else None


def quality_table(heading: str, card: dict[str, Any], groups: Sequence[Group], split: str = "test") -> QualityTable:
    """Adds up the groups of one comparison, with a baseline of their own.

    The baseline is the first Transformer-XL with a test score that is no variant of it.

    Args:
        heading: what tells the table from the study's others.
        card: the task's, with metric, unit and higher_is_better.
        groups: its lines, not yet in order.
        split: ``validation`` where the table serves to choose settings.
    """
    metric, unit, higher = str(card["metric"]), str(card["unit"]), bool(card["higher_is_better"])
    plain = (group for group in groups if group.method == BASELINE and not group.spec["variant"])
    baseline = next((group for group in plain if group.values(metric, "test")), None) if split == "test" else None
    beside, further = references(groups, metric, split), further_metrics(groups, metric, unit, split)
    solved = solved_at(card, beside)
    lines = [_line(group, metric, baseline, split, further, solved) for group in groups]
    measured = sorted(
        (line for line in lines if line.score is not None),
        key=lambda line: (-1 if higher else 1) * (line.score.value if line.score else 0.0),
    )
    corrected = _corrected(measured)
    rest = [line for line in lines if line.score is None]
    return QualityTable(
        heading=heading,
        split=split,
        metric=metric,
        unit=unit,
        higher_is_better=higher,
        objective=str(card.get("objective", "")),
        baseline=baseline,
        lines=corrected + rest,
        further=further,
        references=beside,
        solved_at=solved,
    )


def floor_of(table: QualityTable) -> str:
    """The label of the line without memory; empty where a table has none."""
    return next((line.group.label for line in table.lines if without_memory(line.group.spec)), "")


def _line(
    group: Group, metric: str, baseline: Group | None, split: str, further: Sequence[str], solved_at: float | None
) -> Line:
    cells, scores = group.cells, group.values(metric, split)
    test = group.values(metric, "test")
    against = None
    if baseline is not None and baseline is not group and test:
        against = paired_difference(test, baseline.values(metric, "test"))
    return Line(
        group=group,
        cells=len(cells),
        failed=int((cells["status"] != "ok").sum()),
        ended=int(cells["status"].isin(_ENDED).sum()),
        stale=int(cells["stale"].fillna(False).sum()),
        test=_mean(test),
        validation=_mean(group.values(metric, "validation")),
        score=_mean(scores),
        difference=against,
        parameters=_value(group, "parameters"),
        slots_alive=_value(group, "slots_alive"),
        slots_allocated=_value(group, "slots_allocated"),
        state_bytes=_value(group, "state_bytes"),
        flops_per_token=_value(group, "flops_per_token"),
        mean_span=_value(group, "mean_span"),
        mean_age=_value(group, "mean_age"),
        solved=None if solved_at is None or not scores else sum(score >= solved_at for score in scores.values()),
        further={name: found for name in further if (found := _mean(group.values(name, split)))},
    )


def _mean(values: dict[int, float]) -> Mean | None:
    return mean_interval(list(values.values())) if values else None


def _value(group: Group, metric: str) -> float | None:
    found = _mean(group.values(metric))
    return found.value if found else None


def _corrected(lines: list[Line]) -> list[Line]:
    """The lines with their differences' p values corrected for the number of differences in the table."""
    raw = [line.difference.p for line in lines if line.difference is not None and line.difference.p is not None]
    corrected = iter(holm(raw))
    result = []
    for line in lines:
        if line.difference is not None and line.difference.p is not None:
            line = Line(**{**vars(line), "difference": Difference(line.difference.mean, next(corrected))})
        result.append(line)
    return result


def size_flag(line: Line, quality: QualityTable) -> str:
    """What to say where a model is more than 10 % larger or smaller than is usual; empty where it is not."""
    reference = quality.usual_parameters
    if reference is None or line.parameters is None or abs(line.parameters / reference - 1) <= TOLERANCE:
        return ""
    return f" ({line.parameters / reference - 1:+.0%} parameters)"


def quality_part(quality: QualityTable) -> Table:
    """The table as it is shown."""
    arrow = "↑" if quality.higher_is_better else "↓"
    spans = any(line.mean_span is not None for line in quality.lines)
    ages = any(line.mean_age is not None for line in quality.lines)
    costed = any(line.flops_per_token is not None for line in quality.lines)
    header = [
        "method",
        f"{quality.split} {quality.metric} ({quality.unit}) {arrow}",
        *(["solved"] if quality.solved_at is not None else []),
        *(f"{name} ({quality.unit})" for name in quality.further),
        "seeds",
        "alive / allocated (slots/stream)",
        "state (kB/stream)",
        *(["mean span (tokens)"] if spans else []),
        *(["mean age (tokens)"] if ages else []),
        *(["cost (kFLOP/token)"] if costed else []),
        "parameters",
    ]
    compared = any(line.difference is not None for line in quality.lines)
    if compared and quality.baseline is not None:
        points = _POINTS.get(quality.unit, quality.unit)
        header.insert(2, f"difference to {quality.baseline.label} ({points})")
    lines = []
    for line in quality.lines:
        stale = " (stale)" if line.stale else ""
        cells = [
            f"{line.group.label}{size_flag(line, quality)}{stale}",
            shown(line.score, quality.unit),
            *([_solved(line)] if quality.solved_at is not None else []),
            *(shown(line.further.get(name), quality.unit) for name in quality.further),
            f"{line.cells - line.failed} of {line.cells}",
            f"{number(line.slots_alive, 1)} / {number(line.slots_allocated, 1)}",
            number(None if line.state_bytes is None else line.state_bytes / 1000, 1),
            *([number(line.mean_span, 1)] if spans else []),
            *([number(line.mean_age, 1)] if ages else []),
            *([number(None if line.flops_per_token is None else line.flops_per_token / 1000, 0)] if costed else []),
            number(line.parameters, 0),
        ]
        if compared:
            cells.insert(2, difference_text(line.difference, quality.unit))
        lines.append(tuple(cells))
    for who, value in quality.references.items():
        lines.append((who, shown(Mean(value, None, 1), quality.unit), *["-"] * (len(header) - 2)))
    return Table(tuple(header), tuple(lines))


_DECIMALS = {"%": (1, 2), "rooms": (2, 2)}
"""By unit, those of a metric and of a difference: a percentage of some 20,000 questions is not known to more than one,
and the difference of two methods that were asked the same questions to two. Four for others."""


_POINTS = {"%": "points"}
"""By unit, that of a difference, where it is another."""


def _digits(unit: str, difference: bool = False) -> int:
    """Decimals that a metric is shown with."""
    return _DECIMALS.get(unit, (4, 4))[difference]


def shown(mean: Mean | None, unit: str) -> str:
    """A metric's mean with its interval, or a dash."""
    if mean is None:
        return "-"
    digits = _digits(unit)
    return f"{mean.value:.{digits}f}" if mean.half is None else f"{mean.value:.{digits}f} ± {mean.half:.{digits}f}"


def difference_text(difference: Difference | None, unit: str) -> str:
    """A difference with its interval and corrected p value, or a dash."""
    if difference is None:
        return "-"
    digits = _digits(unit, difference=True)
    text = f"{difference.mean.value:+.{digits}f}"
    if difference.mean.half is not None:
        text += f" ± {difference.mean.half:.{digits}f}"
    return (
        text if difference.p is None else f"{text} (p {'< 0.001' if difference.p < 0.001 else f'{difference.p:.3f}'})"
    )


def _solved(line: Line) -> str:
    return "-" if line.solved is None else f"{line.solved} of {line.ended}"


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
