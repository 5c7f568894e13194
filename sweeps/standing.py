"""How a sweep stands: its trials as lines of a table, their counts, and the best one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bench.store.cell_folder import CellFolder
from bench.store.claim import is_held
from sweeps.trials import CELL, REASON, STATUS, STEPS

COUNTED = ("complete", "pruned", "failed", "running", "interrupted", "waiting")
"""Every state that is counted; the last two are left out of the JSON where there are none."""
ENDED = ("complete", "pruned", "failed")
"""The states that stay."""


@dataclass(frozen=True)
class Line:
    """One trial."""

    number: int
    state: str
    """One of COUNTED."""
    status: str
    """Its cell's status where it failed: oom, diverged and so on."""
    value: float | None
    """Best validation of a complete trial, the last one of another; None where none was measured."""
    step: int | None
    """The last validated step."""
    steps: int | None
    """Where its training ends."""
    parameters: dict[str, Any]
    cell: str
    reason: str


def lines(folder: Path, study: optuna.Study) -> list[Line]:
    """The trials of a sweep, in the order of their numbers.

    Args:
        folder: ``runs/<sweep>``, where running trials are claimed.
        study: the Optuna study.
    """
    return [_line(folder, trial) for trial in study.get_trials(deepcopy=False)]


def _line(folder: Path, trial: FrozenTrial) -> Line:
    attributes, last = trial.user_attrs, trial.last_step
    value = trial.values[0] if trial.values else None
    if value is None and last is not None:
        value = trial.intermediate_values[last]
    return Line(
        trial.number,
        _state(folder, trial),
        str(attributes.get(STATUS, "")),
        value,
        last,
        attributes.get(STEPS),
        dict(trial.params),
        str(attributes.get(CELL, "")),
        str(attributes.get(REASON, "")),
    )


def _state(folder: Path, trial: FrozenTrial) -> str:
    if trial.state == TrialState.RUNNING:
        return "running" if is_held(CellFolder(folder / "trials" / str(trial.number))) else "interrupted"
    return {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.WAITING: "waiting",
    }[trial.state]


def counts(found: Collection[Line]) -> dict[str, int]:
    """How many trials are in each state."""
    number = Counter(line.state for line in found)
    return {state: number[state] for state in COUNTED if number[state] or state in COUNTED[:4]}


def best(found: Collection[Line], *, maximise: bool, metric: str) -> dict[str, Any] | None:
    """The complete trial with the best value, as JSON data; None where none is complete."""
    complete = [line for line in found if line.state == "complete" and line.value is not None]
    if not complete:
        return None
    sign = -1 if maximise else 1
    line = min(complete, key=lambda line: sign * (line.value or 0.0))
    return {
        "trial": line.number,
        "metric": metric,
        "split": "validation",
        "value": line.value,
        "parameters": line.parameters,
        "cell": line.cell,
    }


def summary(folder: Path, study: optuna.Study, definition: dict[str, Any]) -> dict[str, Any]:
    """The last line of `run`, `status` and `best`."""
    found = lines(folder, study)
    maximise = study.direction == optuna.study.StudyDirection.MAXIMIZE
    return {
        "study": study.study_name,
        "counts": counts(found),
        "best": best(found, maximise=maximise, metric=str(definition["objective"]["metric"])),
    }


def table(found: Collection[Line], metric: str) -> str:
    """The trials as a table in plain text."""
    keys = list(dict.fromkeys(key for line in found for key in line.parameters))
    rows = [["trial", "status", f"validation {metric}", "steps", *(key.rpartition(".")[2] for key in keys), "reason"]]
    for line in found:
        steps = f"{line.step or 0} of {line.steps}" if line.steps else ""
        rows.append(
            [
                str(line.number),
                line.state if line.state != "failed" else f"failed ({line.status})",
                "" if line.value is None else f"{line.value:.4f}",
                steps,
                *(shown(line.parameters.get(key, "")) for key in keys),
                line.reason,
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def shown(value: Any) -> str:
    """A parameter's value for people: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
