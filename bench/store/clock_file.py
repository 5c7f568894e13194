"""What the clock measured of one task's methods: ``clock/<task>.json`` in a study's folder.

All methods of a file took turns on one device, so only rows of one file may be compared. A file is replaced whole; the
one before is kept in ``clock/earlier/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.store import atomic
from bench.store.damaged import DamagedFile, read_json
from bench.store.result import Row

VERSION = 1


@dataclass(frozen=True)
class Clocked:
    """One method's part.

    Args:
        cell: the cell whose model was measured.
        fingerprint: of the code that measured, see `bench.clock.phase`.
        status: ok; or why there is no time, with the reason.
        rows: what was measured.
        samples: raw step times in milliseconds, by what was timed: one list per round, None where it had no turn.
    """

    cell: str
    fingerprint: str
    status: str
    reason: str = ""
    rows: list[Row] = field(default_factory=list)
    samples: dict[str, list[list[float] | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClockFile:
    """One task's measurements.

    Args:
        task_label: the task's name with its data.
        settings: how long it was measured, as `ClockSettings`.
        methods: in the study's order.
        provenance: the machine, versions and device.
        started: ISO 8601 in UTC.
        seconds: wall time.
    """

    task_label: str
    settings: dict[str, Any]
    methods: list[Clocked]
    provenance: dict[str, Any]
    started: str
    seconds: float


def path_of(study_dir: Path, task_label: str) -> Path:
    """Where a task's file lies."""
    return Path(study_dir) / "clock" / f"{task_label}.json"


def write(study_dir: Path, measured: ClockFile) -> Path:
    """Writes a task's file; the one that it replaces is kept. Returns its path."""
    path = path_of(study_dir, measured.task_label)
    atomic.make_folder(path.parent)
    if path.exists():
        earlier = path.parent / "earlier"
        atomic.make_folder(earlier)
        number = 1 + len(list(earlier.glob(f"{measured.task_label}.*.json")))
        atomic.write_bytes(earlier / f"{measured.task_label}.{number}.json", path.read_bytes())
    atomic.write_json(path, {"version": VERSION, **asdict(measured)})
    return path


def read(path: Path) -> ClockFile:
    """Reads what `write` wrote. Raises FileNotFoundError or DamagedFile."""
    data = read_json(path)
    if data.pop("version", None) != VERSION:
        raise DamagedFile(path, f"its version is not {VERSION}")
    try:
        methods = [_clocked(method) for method in data.pop("methods")]
        return ClockFile(methods=methods, **data)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(path, f"it lacks or has something else: {error}") from error


def read_all(study_dir: Path) -> tuple[list[ClockFile], list[str]]:
    """All files of a study, by name, and one line for each that is damaged."""
    found, damaged = [], []
    for path in sorted((Path(study_dir) / "clock").glob("*.json")):
        try:
            found.append(read(path))
        except DamagedFile as error:
            damaged.append(str(error))
    return found, damaged


def _clocked(data: Mapping[str, Any]) -> Clocked:
    content = dict(data)
    return Clocked(rows=[Row(**row) for row in content.pop("rows")], **content)
