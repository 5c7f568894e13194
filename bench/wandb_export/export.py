"""Writes a study's finished cells as W&B runs: those that are new, whose files have changed, or whose run is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.store import clock_file, manifest
from bench.store.clock_file import Clocked, ClockFile
from bench.store.damaged import DamagedFile
from bench.store.study_status import read_manifest
from bench.wandb_export import ledger
from bench.wandb_export.content import RunContent, content_of
from bench.wandb_export.ledger import Ledger, Written
from bench.wandb_export.settings import WandbSettings
from bench.wandb_export.writer import ExportError, Writer, remove_unfinished


@dataclass
class Exported:
    """What an export did.

    Args:
        written: cells whose run was written now.
        current: cells whose run was up to date.
        problems: one line for each file that cannot be read or run that could not be written.
        unsent: why runs were written offline though they were to be sent; empty where they were not.
    """

    written: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unsent: str = ""


def export(
    study_dir: Path,
    settings: WandbSettings,
    *,
    force: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Writes the runs that are missing or out of date.

    Where a server cannot be reached, runs are written offline instead, and `Exported.unsent` says why.

    Args:
        study_dir: ``runs/<study>``.
        settings: project, entity and mode.
        force: write all of them again.
        tell: called with a line before each run.

    Raises:
        FileNotFoundError: there is no such study.
        ExportError: W&B is not installed, or another process is writing the study's runs and does not come to an end.
    """
    done = Exported()
    contents = finished(study_dir, done.problems)
    if not contents:
        return done
    with ledger.alone(study_dir, "export", settings.time_limit_s) as turn:
        if not turn:
            raise ExportError("another process is writing this study's runs")
        known = _read(study_dir, done.problems)
        if (known.project, known.entity) != (settings.project, settings.entity):
            known = Ledger(settings.project, settings.entity)
        needed = [content for content in contents if force or not _is_current(study_dir, content, known)]
        chosen = {content.head.name for content in needed}
        done.current = [content.head.name for content in contents if content.head.name not in chosen]
        if not needed:
            return done
        remove_unfinished(ledger.folder_of(study_dir))
        if settings.mode == "online":
            try:
                _write(study_dir, settings, needed, known, done, tell)
            except ExportError as error:
                done.unsent = str(error)
        left = [content for content in needed if content.head.name not in done.written]
        if left:
            _write(study_dir, replace(settings, mode="offline"), left, known, done, tell)
    return done


def finished(study_dir: Path, problems: list[str]) -> list[RunContent]:
    """The runs of all cells that have a result; a line is added to `problems` for each file that cannot be read."""
    listed, damaged = read_manifest(study_dir)
    clocks, broken = clock_file.read_all(study_dir)
    problems += [*damaged, *broken]
    found = []
    for spec in listed.cells:
        try:
            content = finished_cell(study_dir, spec, clocks)
        except DamagedFile as error:
            problems.append(str(error))
        else:
            found += [content] if content else []
    return found


def finished_cell(study_dir: Path, spec: dict[str, object], clocks: list[ClockFile]) -> RunContent | None:
    """One cell's run; None where it has no result. Raises DamagedFile."""
    folder = manifest.cell_folder(study_dir, str(spec["cell"]))
    result = folder.result()
    if result is None:
        return None
    return content_of(manifest.study_name(study_dir), spec, result, folder.records(), _clocked(clocks, folder.cell))


def _clocked(clocks: list[ClockFile], cell: str) -> tuple[ClockFile, Clocked] | None:
    return next(((file, own) for file in clocks for own in file.methods if own.cell == cell), None)


def _read(study_dir: Path, problems: list[str]) -> Ledger:
    try:
        return ledger.read(study_dir)
    except DamagedFile as error:
        problems.append(f"{error}; all runs are written again")
        return Ledger()


def _is_current(study_dir: Path, content: RunContent, known: Ledger) -> bool:
    written = known.runs.get(content.head.name)
    if written is None or written.digest != content.digest:
        return False
    if written.folder is None:
        return True
    return any((ledger.folder_of(study_dir) / written.folder).glob("*.wandb"))


def _write(
    study_dir: Path,
    settings: WandbSettings,
    contents: list[RunContent],
    known: Ledger,
    done: Exported,
    tell: Callable[[str], None],
) -> None:
    with Writer(ledger.folder_of(study_dir), settings) as writer:
        for content in contents:
            tell(f"W&B: {content.head.name}")
            known.runs[content.head.name] = Written(content.digest, writer.write(content))
            ledger.write(study_dir, known)
            done.written.append(content.head.name)
