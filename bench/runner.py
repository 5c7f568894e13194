"""Runs the cells of a study: decides which are left, keeps the executor busy, and stops in good order.

Nothing here is needed to recover: a runner that is killed leaves the same files as one that was never started, and
running the study again goes on. Several runners may work at one study; claims (`store/claim.py`) share out the cells.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.executors import memory_limit as memory_limits
from bench.executors import progress, verdict
from bench.executors.interrupt import Interrupt
from bench.executors.jobs import CELL_FUNCTION, Ended, Executor, How, Job
from bench.executors.local import LocalExecutor
from bench.executors.progress import Progress, Standing
from bench.store import heartbeat, manifest
from bench.store.claim import Claim, is_locked
from bench.store.fingerprint import Today
from bench.store.heartbeat import Heartbeat, Watch
from bench.store.manifest import Spec
from bench.store.resume import check_retry, decide
from bench.store.statuses import WELL, Status
from bench.store.study_status import CellState, cell_state, count, damage_in

_LOOK_S = 1.0
"""Seconds between two looks at what others do."""
_GRACE_S = 1.0
"""Seconds for which a killed cell's fate is left open. Who ends a whole job (a scheduler, a shutdown) may reach the
cells first, and then they are interrupted, not failed."""


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    study: str
    cells: int
    """How many cells were asked for."""
    counts: dict[str, int]
    """How many of them have each status that occurs."""
    interrupted: bool = False
    damaged: list[str] = field(default_factory=list)
    """One line for each file that was found damaged, beginning with its name."""

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C or SIGTERM, 1 if a cell is not well, else 0."""
        if self.interrupted:
            return 130
        return 0 if all(status in WELL for status in self.counts) else 1

    def to_json(self) -> dict[str, Any]:
        """What `run` prints, without the report."""
        return {"study": self.study, "cells": self.cells, "counts": self.counts}


def run_study(
    study_dir: Path,
    specs: Iterable[Spec],
    *,
    jobs: int = 1,
    retry: str | None = None,
    quiet: bool = False,
    preset: str = "",
    titles: Mapping[str, Mapping[str, Any]] | None = None,
    command: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
    cell_function: str = CELL_FUNCTION,
    make_executor: Callable[[int, Callable[[str], None]], Executor] = LocalExecutor,
) -> Summary:
    """Runs what is missing, interrupted or damaged of a study, and what `retry` asks for.

    Args:
        study_dir: ``runs/<study>``; made if it is new.
        specs: the cells asked for. Others that the study has stay as they are.
        jobs: how many cells run at a time.
        retry: oom, failed, stale or all: which results are replaced. The replaced ones are kept.
        quiet: print nothing but problems.
        preset, titles, command: for the manifest, see `manifest.merge`.
        memory_limit: bytes that each cell on the CPU may allocate; None for a share of what is free.
        cell_function: what runs a cell, see `jobs.CELL_FUNCTION`.
        make_executor: called with `jobs` and a function that shows a problem.

    Returns:
        how the cells stand now.

    Raises:
        SettingsError: `retry` is not known.
    """
    check_retry(retry)
    specs = list({spec.id: spec for spec in specs}.values())
    show = progress.make(quiet)
    try:
        with Interrupt() as interrupt:
            listed, damage = manifest.merge(study_dir, specs, preset=preset, titles=titles, command=command)
            executor = make_executor(jobs, show.warn)
            limit = memory_limit if memory_limit is not None else memory_limits.default(jobs)
            run = _Run(study_dir, specs, cell_function, limit, listed.metric, show, interrupt, executor)
            if damage is not None:
                run.found_damaged(f"{damage}; it is made again, and the old one is kept beside it")
            run.plan(retry)
            show.begin(run.plan_line(jobs))
            run.work()
            return run.summary()
    finally:
        show.close()


class _Run:
    """One run of a study: each cell is waiting, running, elsewhere, in doubt, or done."""

    def __init__(
        self,
        study_dir: Path,
        specs: list[Spec],
        cell_function: str,
        memory_limit: int | None,
        metric: Callable[[str], str | None],
        show: Progress,
        interrupt: Interrupt,
        executor: Executor,
    ) -> None:
        # Absolute, as nothing keeps a cell's code from changing its working folder.
        study_dir = Path(os.path.abspath(study_dir))
        self._study_dir, self._study = study_dir, study_dir.name
        self._show, self._interrupt, self._executor = show, interrupt, executor
        self._jobs: dict[str, Job] = {}
        self._metrics: dict[str, str | None] = {}
        for spec in specs:
            folder = manifest.cell_folder(study_dir, spec.id)
            data = spec.to_json()
            self._jobs[spec.id] = Job(
                spec.id, folder.path, data, memory_limit=memory_limit, cell_function=cell_function
            )
            self._metrics[spec.id] = metric(str(data.get("task", "")))
        self._folders = {cell: manifest.cell_folder(study_dir, cell) for cell in self._jobs}
        self._waiting: deque[str] = deque()
        self._elsewhere: set[str] = set()
        self._doubtful: list[tuple[float, Ended, Claim]] = []
        self._done: dict[str, Status] = {}
        self._damaged: list[str] = []
        self._watch = Watch()

    def plan(self, retry: str | None) -> None:
        """Decides for each cell whether it is to be run."""
        today = Today(self._study_dir)
        for cell, job in self._jobs.items():
            decision = decide(self._folders[cell], job.spec, retry, today)
            if decision.run:
                for line in damage_in(self._folders[cell]):
                    self.found_damaged(f"{line}; the cell is run again")
                self._jobs[cell] = replace(job, replaces=decision.replaces, afresh=decision.afresh)
                self._waiting.append(cell)
            else:
                self._done[cell] = self._state(cell).status

    def found_damaged(self, line: str) -> None:
        """Notes a damaged file, and shows it."""
        self._damaged.append(line)
        self._show.warn(line)

    def plan_line(self, jobs: int) -> str:
        """What is going to be done, in one line."""
        done = f", {len(self._done)} done before" if self._done else ""
        return f"study {self._study}: {len(self._jobs)} cells{done}, {len(self._waiting)} to run, {jobs} at a time"

    def work(self) -> None:
        """Runs until every cell is done, or a signal comes."""
        looked = 0.0
        try:
            while (self._waiting or self._elsewhere or self._doubtful or self._executor.running()) and self._going():
                self._start_some()
                for ended in self._executor.wait(self._patience(), self._interrupt.fileno()):
                    self._take_in(ended)
                if not self._going():
                    # Before anything is judged: what has just ended may have been ended by the same signal.
                    break
                self._judge()
                if time.monotonic() - looked >= _LOOK_S:
                    self._look_elsewhere()
                    self._show.tick(self._standing())
                    looked = time.monotonic()
        except KeyboardInterrupt:
            # Raised by `Interrupt.raising` alone, and counted there; anywhere else it is somebody else's.
            if self._going():
                raise
        except OSError as error:
            self._show.warn(f"the run cannot go on: {error}; run it again when that is mended, and it will")
        finally:
            self._interrupt.clear()
            if self._executor.running():
                self._show.say("ending the cells that run; the study can be resumed")
            self._judge(all_free=True)
            self._executor.stop(hurry=lambda: self._interrupt.urgent)

    def summary(self) -> Summary:
        """How the cells stand now."""
        counts = count(self._state(cell).status for cell in self._jobs)
        return Summary(self._study, len(self._jobs), counts, self._interrupt.came, self._damaged)

    def _going(self) -> bool:
        return not self._interrupt.came

    def _patience(self) -> float:
        """How long to wait for an end: not at all long where another cell can be started or judged soon."""
        return 0.1 if self._doubtful else _LOOK_S

    def _start_some(self) -> None:
        """Starts waiting cells where there is room, in order; those that others have are put aside."""
        for _ in range(len(self._waiting)):
            if not self._executor.free():
                return
            cell = self._waiting.popleft()
            free, beat = self._is_free(cell)
            if not free:
                self._elsewhere.add(cell)
                continue
            self._folders[cell].create(self._jobs[cell].spec)
            with self._interrupt.raising():
                self._executor.start(replace(self._jobs[cell], stood_still=beat))

    def _is_free(self, cell: str) -> tuple[bool, Heartbeat | None]:
        """Whether nobody seems to have a cell; with it another machine's heartbeat that has stood still, if any."""
        free, beat = self._watch.dead(self._folders[cell].heartbeat_path)
        return free and not is_locked(self._folders[cell]), beat

    def _take_in(self, ended: Ended) -> None:
        """Sorts a cell whose process has ended."""
        cell = ended.job.cell
        if ended.how is How.NOT_RUN:
            self._waiting.appendleft(cell)
        elif self._has_result(cell):
            self._finish(cell)
        elif ended.how is How.HELD:
            self._elsewhere.add(cell)
        else:
            # Claimed at once, lest another runner takes up a cell that kills every process that tries it.
            held = verdict.hold(ended)
            if held is None:
                self._elsewhere.add(cell)
            else:
                wait = _GRACE_S if verdict.may_be_part_of_a_shutdown(ended) else 0.0
                self._doubtful.append((time.monotonic() + wait, ended, held))

    def _judge(self, *, all_free: bool = False) -> None:
        """Writes down what became of killed cells, once it is sure that this runner is not meant as well."""
        now = time.monotonic()
        for doubt in list(self._doubtful):
            due, ended, held = doubt
            if all_free:
                held.release()
            elif now >= due:
                remark = verdict.record(ended, held)
                if remark:
                    self._show.warn(remark)
                self._finish(ended.job.cell)
            else:
                continue
            self._doubtful.remove(doubt)

    def _look_elsewhere(self) -> None:
        """Looks at the cells that others have: those with a result are done, those that are free are ours again."""
        for cell in sorted(self._elsewhere):
            if self._has_result(cell):
                self._elsewhere.remove(cell)
                self._finish(cell)
            elif self._is_free(cell)[0]:
                self._elsewhere.remove(cell)
                self._waiting.append(cell)

    def _has_result(self, cell: str) -> bool:
        """Whether there is a result other than the one that this run is to replace."""
        digest = self._folders[cell].result_digest()
        return digest is not None and digest != self._jobs[cell].replaces

    def _finish(self, cell: str) -> None:
        state = self._state(cell)
        self._done[cell] = state.status
        self._show.ended(state, self._standing())

    def _state(self, cell: str) -> CellState:
        return cell_state(self._folders[cell], self._metrics[cell])

    def _standing(self) -> Standing:
        running = []
        for job in self._executor.running():
            beat = heartbeat.read(self._folders[job.cell].heartbeat_path)
            phase, step, steps = (beat.phase, beat.step, beat.steps) if beat else ("", 0, 0)
            running.append(CellState(job.cell, Status.RUNNING, phase=phase, step=step, steps=steps))
        elsewhere = len(self._elsewhere)
        return Standing(len(self._jobs), len(self._waiting), elsewhere, list(self._done.values()), running)
