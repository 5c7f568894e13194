"""Sends a study's cells to W&B while they run, from a process beside the runner: cells know nothing of it.

It reads what anybody may read: the manifest, who holds which cell, metrics.jsonl as it grows, results. What it cannot
send, or does not see in time, the export at the study's end writes.
"""

from __future__ import annotations

import select
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.store import attempt, clock_file, manifest
from bench.store.cell_folder import CellFolder
from bench.store.claim import is_held
from bench.store.damaged import DamagedFile
from bench.wandb_export import ledger
from bench.wandb_export.content import Moment, head_of, moments
from bench.wandb_export.export import finished_cell
from bench.wandb_export.ledger import Ledger, Written
from bench.wandb_export.settings import WandbSettings
from bench.wandb_export.writer import ExportError, Writer

LOOK_S = 2.0
"""Seconds between two looks at the cells that run."""


@dataclass
class _Sending:
    """A cell whose run has begun."""

    spec: dict[str, Any]
    folder: CellFolder
    run: Any
    started: float
    sent: set[tuple[int, str]] = field(default_factory=set)
    """Step and name of the figures that were sent: a cell that goes on from a checkpoint writes some again."""


def follow(study_dir: Path, settings: WandbSettings) -> None:
    """Sends cells until stdin is closed, which is also how the end of the runner is noticed.

    Args:
        study_dir: ``runs/<study>``, which the runner may not have made yet.
        settings: project and entity.

    Raises:
        ExportError: no run could be begun; or another process follows this study.
    """
    with ledger.alone(study_dir, "follow", 0.0) as turn:
        if not turn:
            raise ExportError("another process sends this study's cells already")
        live: Live | None = None
        try:
            while not select.select([sys.stdin], [], [], LOOK_S)[0]:
                if live is None and manifest.manifest_path(study_dir).exists():
                    live = Live(study_dir, settings)
                if live is not None:
                    live.look()
            if live is not None:
                live.look()
        finally:
            if live is not None:
                live.close()


class Live:
    """The cells of a study that are being sent.

    Args:
        study_dir: ``runs/<study>``, with a manifest.
        settings: project and entity.
    """

    def __init__(self, study_dir: Path, settings: WandbSettings) -> None:
        self._study_dir, self._settings = study_dir, settings
        self._writer = Writer(ledger.folder_of(study_dir), settings).__enter__()
        self._sending: dict[str, _Sending] = {}

    def look(self) -> None:
        """Sends what is new. Raises ExportError where a run cannot be begun."""
        try:
            listed = manifest.read(self._study_dir)
        except (FileNotFoundError, DamagedFile):  # the runner is about to write it
            return
        for spec in listed.cells:
            cell = str(spec["cell"])
            folder = manifest.cell_folder(self._study_dir, cell)
            if cell not in self._sending and folder.result_digest() is None and is_held(folder):
                self._begin(spec, folder)
        for cell, sending in list(self._sending.items()):
            self._send(sending)
            if sending.folder.result_digest() is not None:
                self._finish(cell, sending)

    def close(self) -> None:
        """Ends the runs of cells that have not ended, as failed; the next run of the study begins them anew."""
        try:
            for sending in self._sending.values():
                self._writer.finish(sending.run, {}, {"status": "interrupted"}, 1)
        finally:
            self._sending = {}
            self._writer.__exit__(None, None, None)

    def _begin(self, spec: dict[str, Any], folder: CellFolder) -> None:
        noted = attempt.read(folder)
        if noted is None:
            return  # its process is about to begin the attempt
        started = datetime.fromisoformat(noted.started).timestamp()
        head = head_of(manifest.study_name(self._study_dir), spec)
        self._sending[folder.cell] = _Sending(spec, folder, self._writer.begin(head), started)

    def _send(self, sending: _Sending) -> None:
        try:
            records = sending.folder.records()
        except DamagedFile:  # the cell's next run says so, and begins afresh
            return
        for moment in moments(records):
            new = {name: value for name, value in moment.figures.items() if (moment.step, name) not in sending.sent}
            if new:
                self._writer.log(sending.run, Moment(moment.step, moment.seconds, new), sending.started)
                sending.sent |= {(moment.step, name) for name in new}

    def _finish(self, cell: str, sending: _Sending) -> None:
        try:
            clocks, _ = clock_file.read_all(self._study_dir)
            content = finished_cell(self._study_dir, sending.spec, clocks)
        except DamagedFile:
            content = None
        if content is None:
            return
        del self._sending[cell]
        self._writer.finish(sending.run, content.late_config, content.summary, content.exit_code)
        with ledger.alone(self._study_dir, "export", self._settings.time_limit_s) as turn:
            if turn:
                self._note(cell, content.digest)

    def _note(self, cell: str, digest: str) -> None:
        try:
            known = ledger.read(self._study_dir)
        except DamagedFile:  # the export at the end says so, and writes all runs again
            return
        if (known.project, known.entity) != (self._settings.project, self._settings.entity):
            known = Ledger(self._settings.project, self._settings.entity)
        known.runs[cell] = Written(digest, None)
        ledger.write(self._study_dir, known)
