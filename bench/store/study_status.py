"""How a study stands, from its files alone: what `python -m bench status` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.store import heartbeat, manifest
from bench.store.cell_folder import CellFolder
from bench.store.claim import is_held
from bench.store.damaged import DamagedFile
from bench.store.fingerprint import Today
from bench.store.manifest import Manifest
from bench.store.result import Result, Row
from bench.store.resume import is_stale
from bench.store.statuses import Status


@dataclass(frozen=True)
class CellState:
    """How one cell stands."""

    cell: str
    status: Status
    reason: str = ""
    phase: str = ""
    """What a running cell does now."""
    step: int = 0
    steps: int = 0
    """Where the phase ends; 0 where unknown."""
    seconds: float | None = None
    """Wall time of a result, in seconds."""
    main: Row | None = None
    """The value of the task's metric: on test, else on validation."""
    result: Result | None = None
    stale: bool = False
    """Whether the result is known to be of other code than today's."""


@dataclass(frozen=True)
class StudyStatus:
    """How a study stands."""

    study: str
    cells: list[CellState]
    """In the manifest's order."""
    damaged: list[str] = field(default_factory=list)
    """One line for each file that cannot be read, beginning with its name."""

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each status that occurs."""
        return count(state.status for state in self.cells)

    @property
    def stale(self) -> int:
        """How many results are of other code than today's."""
        return sum(state.stale for state in self.cells)


def count(statuses: Any) -> dict[str, int]:
    """How often each status occurs, in the order in which `Status` lists them."""
    found = Counter(statuses)
    return {status.value: found[status] for status in Status if found[status]}


def cell_state(folder: CellFolder, metric: str | None = None) -> CellState:
    """How one cell stands.

    Args:
        folder: its folder, which need not exist.
        metric: its task's metric.
    """
    try:
        result = folder.result()
    except DamagedFile as error:
        return CellState(folder.cell, Status.RUNNING if is_held(folder) else Status.DAMAGED, str(error))
    if result is not None:
        return CellState(
            folder.cell,
            result.status,
            result.reason,
            seconds=result.seconds,
            main=result.main_row(metric),
            result=result,
        )
    beat = heartbeat.read(folder.heartbeat_path)
    phase, step, steps = (beat.phase, beat.step, beat.steps) if beat else ("", 0, 0)
    if is_held(folder):
        return CellState(folder.cell, Status.RUNNING, phase=phase, step=step, steps=steps)
    if folder.started():
        return CellState(folder.cell, Status.INTERRUPTED, phase=phase, step=step, steps=steps)
    return CellState(folder.cell, Status.PENDING)


def study_status(study_dir: Path) -> StudyStatus:
    """How every cell of a study stands. Raises FileNotFoundError where there is no such study."""
    listed, damaged = read_manifest(study_dir)
    states, today = [], Today(study_dir)
    for cell in listed.cells:
        folder = manifest.cell_folder(study_dir, cell["cell"])
        state = cell_state(folder, metric_of(listed, cell))
        other = state.result is not None and is_stale(state.result, cell, today)
        states.append(replace(state, stale=bool(other)))
        damaged += damage_in(folder)
    return StudyStatus(manifest.study_name(study_dir), states, damaged)


def read_manifest(study_dir: Path) -> tuple[Manifest, list[str]]:
    """A study's manifest, or what its cells say in its place; and a line about each of these files that is damaged.

    Raises FileNotFoundError where there is neither.
    """
    try:
        return manifest.read(study_dir), []
    except DamagedFile as error:
        found, others = manifest.recover(study_dir)
        problem = str(error)
    except FileNotFoundError:
        found, others = manifest.recover(study_dir)
        if not found.cells and not others:
            raise
        problem = f"{manifest.study_name(study_dir)}/manifest.json is missing"
    return found, [f"{problem}; the cells' own specs are used", *map(str, others)]


def metric_of(listed: Manifest, cell: Mapping[str, Any]) -> str | None:
    """The metric by which a cell's task is judged."""
    return listed.metric(str(cell.get("task", "")))


def damage_in(folder: CellFolder) -> list[str]:
    """One line for each damaged file of a cell."""
    lines = []
    for look in (folder.result, folder.records):
        try:
            look()
        except DamagedFile as error:
            lines.append(str(error))
    return lines
