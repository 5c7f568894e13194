"""A study as one long table: one line for each measured value, with all that is needed to judge it.

pandas is imported by `load` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.store import clock_file, manifest
from bench.store.clock_file import ClockFile
from bench.store.fingerprint import Today
from bench.store.manifest import Manifest
from bench.store.resume import is_other, is_stale
from bench.store.study_status import CellState, cell_state, damage_in, metric_of, read_manifest

if TYPE_CHECKING:
    import pandas

_SPEC = (
    "task",
    "task_label",
    "method",
    "variant",
    "impl",
    "seed",
    "preset",
    "task_version",
    "precision",
    "threads",
)
_ROW = ("metric", "value", "unit", "split", "n", "p20", "p50", "p80", "higher_is_better", "context")
_ORIGIN = (
    "commit",
    "dirty",
    "python",
    "torch",
    "lightning",
    "cuda",
    "driver",
    "device",
    "device_memory",
    "devices",
    "cpu",
    "cores",
)
COLUMNS = (
    "study",
    "cell",
    *_SPEC,
    "status",
    "reason",
    *_ROW,
    "fingerprint",
    "stale",
    *_ORIGIN,
    "started",
    "seconds",
    "attempt",
)
"""The table's columns: those of a cell, of its result, of the row, and of where it came from."""

_TYPES = {
    "seed": "Int64",
    "task_version": "Int64",
    "threads": "Int64",
    "value": "float64",
    "n": "Int64",
    "p20": "float64",
    "p50": "float64",
    "p80": "float64",
    "higher_is_better": "boolean",
    "stale": "boolean",
    "dirty": "boolean",
    "device_memory": "Int64",
    "devices": "Int64",
    "cores": "Int64",
    "seconds": "float64",
    "attempt": "Int64",
}


def load(study_dir: Path) -> pandas.DataFrame:
    """All rows of a study.

    A cell without rows (still to run, out of memory, failed) has one line with its status and no metric, so that
    nothing that was asked for goes missing. What the clock measured follows after the cells' own rows, with the status
    and the device of the clock. A file that cannot be read is never taken for a result: its cell's status
    is ``damaged``, and ``table.attrs["damaged"]`` names it. ``stale`` says that the result was made by other code than
    today's; it is NA where that cannot be known.

    Args:
        study_dir: ``runs/<study>``.

    Returns:
        a table with `COLUMNS`, in the manifest's order; ``attrs`` has ``study``, ``damaged`` (one line per file),
        ``titles`` (the cards), ``specs`` (each cell's, by its id) and ``created``.

    Raises:
        FileNotFoundError: there is no such study.
    """
    import pandas

    listed, damaged = read_manifest(study_dir)
    lines: list[dict[str, Any]] = []
    today = Today(study_dir)
    for cell in listed.cells:
        folder = manifest.cell_folder(study_dir, cell["cell"])
        lines += _lines(manifest.study_name(study_dir), cell, cell_state(folder, metric_of(listed, cell)), today)
        damaged += damage_in(folder)
    specs = {cell["cell"]: cell for cell in listed.cells}
    clocks, broken = clock_file.read_all(study_dir)
    damaged += broken
    for measured in clocks:
        lines += _clock_lines(manifest.study_name(study_dir), measured, specs, today)
    table = pandas.DataFrame(lines, columns=list(COLUMNS)).astype(_TYPES)
    table.attrs.update(_about(manifest.study_name(study_dir), listed, damaged))
    return table


def _about(study: str, listed: Manifest, damaged: list[str]) -> dict[str, Any]:
    specs = {cell["cell"]: dict(cell) for cell in listed.cells}
    return {"study": study, "created": listed.created, "titles": listed.titles, "specs": specs, "damaged": damaged}


def _lines(study: str, cell: Mapping[str, Any], state: CellState, today: Today) -> list[dict[str, Any]]:
    """The table's lines for one cell."""
    shared: dict[str, Any] = {"study": study, "cell": state.cell, "status": state.status.value, "reason": state.reason}
    shared |= {name: cell.get(name) for name in _SPEC}
    result = state.result
    if result is None:
        return [shared]
    shared |= {name: result.provenance.get(name) for name in (*_ORIGIN, "fingerprint")}
    shared["threads"] = result.provenance.get("threads") or cell.get("threads")
    shared |= {"stale": is_stale(result, cell, today), "started": result.started, "seconds": result.seconds}
    shared["attempt"] = result.attempt
    return [shared | {name: getattr(row, name) for name in _ROW} for row in result.rows] or [shared]


def _clock_lines(
    study: str, measured: ClockFile, specs: Mapping[str, Mapping[str, Any]], today: Today
) -> list[dict[str, Any]]:
    """The table's lines for one task's clock file."""
    lines = []
    for method in measured.methods:
        if method.cell not in specs:
            continue
        shared: dict[str, Any] = {"study": study, "cell": method.cell, "status": method.status, "reason": method.reason}
        shared |= {name: specs[method.cell].get(name) for name in _SPEC}
        shared |= {name: measured.provenance.get(name) for name in _ORIGIN}
        shared |= {"fingerprint": method.fingerprint, "started": measured.started, "seconds": measured.seconds}
        shared["stale"] = is_other(method.fingerprint, today.of_the_clock, specs[method.cell])
        lines += [shared | {name: getattr(row, name) for name in _ROW} for row in method.rows]
    return lines
