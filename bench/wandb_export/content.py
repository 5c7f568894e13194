"""What a cell's W&B run says, made from the stored files alone: the same files give the same run, byte for byte.

Nothing of the machine or its user stands in it: no host, no folder, no command line, no git remote. Figures are named
``split/metric`` and, where the clock measured them, ``clock/split/metric``; a figure that is missing has no name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from bench.store.clock_file import Clocked, ClockFile
from bench.store.result import Result, Row
from bench.store.statuses import WELL
from bench.store.without_paths import without_paths

_TAG_LENGTH = 64
_GROUP_LENGTH = 128


@dataclass(frozen=True)
class Head:
    """What is known of a run before its cell has run.

    Args:
        id: the same for a study's name and a cell, always.
        name: the cell's id.
        group: the task with its data.
        job_type: the method expression.
        tags: ``kind:value``, at most 64 characters each.
        config: the cell's spec, nested as it is, with ``study``, ``cell`` and ``expression``.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """What was measured at one step.

    Args:
        step: training steps done.
        seconds: since the attempt began; wall time without interruptions.
        figures: name to value.
    """

    step: int
    seconds: float
    figures: dict[str, float]


@dataclass(frozen=True)
class RunContent:
    """A finished cell as a run.

    Args:
        head: what was known before.
        late_config: what is added to the config at the end: where the result came from, and units.
        curve: in the order of steps.
        summary: status, times, and every measured value by its name.
        started: when the cell began, seconds since 1970 in UTC.
        exit_code: 0 for a cell that is well.
    """

    head: Head
    late_config: dict[str, Any]
    curve: list[Moment]
    summary: dict[str, Any]
    started: float
    exit_code: int

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all of it: another one means that the run must be written again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def head_of(study: str, spec: Mapping[str, Any]) -> Head:
    """What is known of a cell's run before it has run.

    Args:
        study: the study's name.
        spec: the cell's spec as JSON data, with its id under ``cell``.
    """
    cell = str(spec["cell"])
    variant = spec.get("variant", "")
    expression = f"{spec['method']}+{variant}" if variant else str(spec["method"])
    kinds = {
        "method": expression,
        "task": spec["task_label"],
        "preset": spec.get("preset", ""),
        "impl": spec["impl"],
        "precision": spec["precision"],
        "seed": spec["seed"],
    }
    plugins = [{key: plugin[key] for key in plugin if key != "path"} for plugin in spec.get("plugins", [])]
    config = {"study": study, **spec, "expression": expression, "plugins": plugins}
    return Head(
        id=hashlib.sha256(f"{study}/{cell}".encode()).hexdigest()[:16],
        name=cell,
        group=_shortened(str(spec["task_label"]), _GROUP_LENGTH),
        job_type=_shortened(expression, _TAG_LENGTH),
        tags=[_shortened(f"{kind}:{value}", _TAG_LENGTH) for kind, value in kinds.items() if value != ""],
        config=without_folders(config),
    )


def moments(records: Iterable[Mapping[str, Any]]) -> list[Moment]:
    """The records of metrics.jsonl by step; the seconds are those of a step's last record."""
    found: dict[int, Moment] = {}
    for record in records:
        step, seconds = int(record["step"]), float(record["seconds"])
        before = found.get(step, Moment(step, seconds, {}))
        figures = before.figures | {figure_name(str(record["split"]), str(record["metric"])): float(record["value"])}
        found[step] = Moment(step, max(seconds, before.seconds), figures)
    return [found[step] for step in sorted(found)]


def content_of(
    study: str,
    spec: Mapping[str, Any],
    result: Result,
    records: Iterable[Mapping[str, Any]],
    clock: tuple[ClockFile, Clocked] | None,
) -> RunContent:
    """A finished cell's run.

    Args:
        study: the study's name.
        spec: the cell's spec as JSON data, with its id under ``cell``.
        result: its result.
        records: its metrics.jsonl.
        clock: the clock's file of its task, and its own part; None where it was not measured.
    """
    summary: dict[str, Any] = {"status": result.status.value, "seconds": result.seconds, "attempt": result.attempt}
    if result.reason:
        summary["reason"] = without_paths(result.reason)
    late: dict[str, Any] = {"provenance": result.provenance, "started": result.started}
    units: dict[str, str] = {}
    _add_rows(summary, units, "", result.rows)
    if clock is not None:
        file, own = clock
        summary["clock/status"] = own.status
        if own.reason:
            summary["clock/reason"] = without_paths(own.reason)
        _add_rows(summary, units, "clock", own.rows)
        late["clock"] = {"settings": file.settings, "provenance": file.provenance, "started": file.started}
    late["units"] = units
    return RunContent(
        head=head_of(study, spec),
        late_config=without_folders(late),
        curve=moments(records),
        summary=summary,
        started=datetime.fromisoformat(result.started).timestamp() if result.started else 0.0,
        exit_code=0 if result.status in WELL else 1,
    )


def figure_name(*parts: str) -> str:
    """``split/metric``; parts that are empty are left out."""
    return "/".join(part for part in parts if part)


def _add_rows(summary: dict[str, Any], units: dict[str, str], prefix: str, rows: list[Row]) -> None:
    """Adds rows to a summary. Rows of one name are told apart by what differs in their context, else by a number."""
    named: Counter[str] = Counter()
    often = Counter((row.split, row.metric) for row in rows)
    for row in rows:
        same = [other.context for other in rows if (other.split, other.metric) == (row.split, row.metric)]
        differing = (
            sorted(key for key in row.context if any(context.get(key) != row.context[key] for context in same))
            if often[row.split, row.metric] > 1
            else []
        )
        name = figure_name(prefix, row.split, row.metric, *(f"{key}={row.context[key]}" for key in differing))
        named[name] += 1
        if named[name] > 1:
            name = f"{name}/{named[name]}"
        if row.value is not None:
            summary[name], units[name] = row.value, row.unit
        for percentile in ("p20", "p80"):
            if getattr(row, percentile) is not None:
                summary[f"{name}/{percentile}"] = getattr(row, percentile)


def without_folders(value: Any) -> Any:
    """JSON data whose texts name files without the folders they lie in."""
    if isinstance(value, Mapping):
        return {
            key: os.path.basename(entry) if key == "path" and isinstance(entry, str) else without_folders(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_folders(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if value.startswith((f"..{os.sep}", f".{os.sep}")):
        return os.path.basename(value)
    return without_paths(value)


def _shortened(text: str, length: int) -> str:
    """The text, or where it is too long its beginning and a hash of all of it."""
    if len(text) <= length:
        return text
    return f"{text[: length - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
