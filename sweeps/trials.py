"""The trials of a sweep as a source of cells: asks Optuna for them, watches them, tells how they ended.

A trial is claimed in a folder of its own, `runs/<sweep>/trials/<number>/`, for as long as a worker has it. One that the
storage has as running and that nobody claims was interrupted: whoever claims it takes it up again, under the same
number, with the same parameters and so the same cell, which goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from bench.executors import verdict
from bench.executors.jobs import Ended, How, Job
from bench.spec import CellSpec
from bench.store import atomic, manifest
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim, claim, is_locked
from bench.store.damaged import DamagedFile
from bench.store.heartbeat import Watch
from bench.store.result import Result
from bench.store.statuses import RESULTS, Status
from bench.store.study_status import CellState
from bench.store.turn import alone
from models.errors import SettingsError
from sweeps import search, storage
from sweeps.space import Space
from sweeps.trial_cells import TrialCells

CELL, STATUS, REASON, STEPS, PRUNING = "cell", "status", "reason", "steps", "pruning"
"""User attributes of a trial: its cell's id, how that ended, why, where its training ends, why it is being pruned."""


@dataclass
class _Open:
    """A trial that this worker has."""

    trial: optuna.Trial
    held: Claim
    cell: str
    steps: int
    reported: set[int]
    lost: bool = False
    """Another machine took it while this one stood still."""


class Trials:
    """What gives a run its cells (`bench.cell_source.CellSource`).

    Args:
        folder: ``runs/<sweep>``.
        study: the Optuna study.
        space: what is searched.
        cells: the cells of trials.
        total: how many trials there shall be, earlier ones included.
        warn: shows a problem.
    """

    def __init__(
        self,
        folder: Path,
        study: optuna.Study,
        space: Space,
        cells: TrialCells,
        total: int,
        warn: Callable[[str], None],
    ) -> None:
        self._folder, self._study, self._space, self._cells = folder, study, space, cells
        self._total, self._warn = total, warn
        self._open: dict[int, _Open] = {}
        self._given_up: set[int] = set()
        self._watch = Watch()

    def next(self) -> CellSpec | None:
        """The cell of a trial that was interrupted, or else of a new one; None where there is nothing to begin now."""
        while True:
            with alone(storage.lock_path(self._folder)):
                begun = self._take_up() or self._ask()
                if begun is None:
                    return None
                trial, held = begun
                spec = self._begin(trial, held)
            if spec is not None:
                return spec

    def exhausted(self) -> bool:
        """Whether all trials have ended, those of other workers too; trials given up here do not count."""
        if self._open:
            return False
        trials = self._study.get_trials(deepcopy=False)
        running = [
            trial for trial in trials if trial.state == TrialState.RUNNING and trial.number not in self._given_up
        ]
        return not running and _begun(trials) >= self._total

    def to_prune(self, running: Collection[str]) -> dict[str, str]:
        """Reports what cells have measured since the last time, and says which of them the pruner would end."""
        found: dict[str, str] = {}
        for mine in list(self._open.values()):
            last = self._report(mine)
            # The last validation is followed by the test alone, so there is nothing to save.
            if mine.lost or last is None or last[0] >= mine.steps or mine.cell not in running:
                continue
            if mine.trial.should_prune():
                (step, value), kind = last, self._space.pruner.kind
                found[mine.cell] = (
                    f"at step {step} of {mine.steps} by the {kind} pruner: {self._cells.metric} {value:.4g}"
                )
                mine.trial.set_user_attr(PRUNING, found[mine.cell])
        return found

    def ended(self, state: CellState) -> None:
        """Tells Optuna how the trials of a cell ended. Without a result they stay as they are, to be taken up again."""
        for mine in [mine for mine in self._open.values() if mine.cell == state.cell]:
            if state.status in RESULTS and state.result is not None and not mine.lost:
                self._report(mine)
                self._tell(mine.trial, state.result)
            else:
                self._given_up.add(mine.trial.number)
            self._let_go(mine)

    def close(self) -> None:
        """Lets go of the trials that have not ended; any worker may take them up."""
        for mine in list(self._open.values()):
            self._let_go(mine)

    def of(self, cell: str) -> list[FrozenTrial]:
        """The trials of a cell, as the storage has them."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.user_attrs.get(CELL) == cell]

    def _take_up(self) -> tuple[optuna.Trial, Claim] | None:
        """A trial that was interrupted, claimed."""
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if frozen.number in self._open or frozen.number in self._given_up:
                continue
            held = self._claim(frozen.number)
            if held is None:
                continue
            # Optuna has no public name for a trial's id in its storage.
            trial = optuna.Trial(self._study, frozen._trial_id)
            # Between the look and the claim its worker may have told how it ended.
            if self._study.get_trials(deepcopy=False)[frozen.number].state == TrialState.RUNNING:
                return trial, held
            held.release()
        return None

    def _ask(self) -> tuple[optuna.Trial, Claim] | None:
        """A new trial, claimed."""
        if _begun(self._study.get_trials(deepcopy=False)) >= self._total:
            return None
        trial = self._study.ask()
        held = self._claim(trial.number)
        if held is None:
            raise OSError(
                f"the new trial {trial.number} is claimed by a worker that does not share {self._folder.name}"
            )
        return trial, held

    def _claim(self, number: int) -> Claim | None:
        folder = CellFolder(self._folder / "trials" / str(number))
        atomic.make_folder(folder.path)
        free, beat = self._watch.dead(folder.heartbeat_path)
        if not free or is_locked(folder):
            return None

        def lost() -> None:
            if number in self._open:
                self._open[number].lost = True
            self._warn(f"trial {number} was taken up by another machine while this one stood still")

        return claim(folder, stood_still=beat, on_lost=lost)

    def _begin(self, trial: optuna.Trial, held: Claim) -> CellSpec | None:
        """The cell of a claimed trial; None where the trial has ended already."""
        try:
            spec = self._cells.spec(search.suggest(trial, self._space))
        except SettingsError as error:
            trial.set_user_attr(STATUS, Status.UNSUPPORTED.value)
            trial.set_user_attr(REASON, str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            self._warn(f"trial {trial.number} cannot be run: {error}")
            held.release()
            return None
        steps = int(spec.train["steps"])
        trial.set_user_attr(CELL, spec.id)
        trial.set_user_attr(STEPS, steps)
        reported = set(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        self._open[trial.number] = _Open(trial, held, spec.id, steps, reported)
        if PRUNING in trial.user_attrs:
            self._finish_pruning(spec, str(trial.user_attrs[PRUNING]))
        return spec

    def _finish_pruning(self, spec: CellSpec, reason: str) -> None:
        """Writes down that a cell was pruned, where the worker that had decided it was killed before it could."""
        folder = manifest.cell_folder(self._folder, spec.id)
        folder.create(spec.to_json())
        ended = Ended(Job(spec.id, folder.path, spec.to_json()), How.PRUNED, None, 0.0, reason)
        held = verdict.hold(ended)
        # Without it the cell's process lives on, and the run waits for its result.
        if held is not None:
            verdict.record(ended, held)

    def _report(self, mine: _Open) -> tuple[int, float] | None:
        """Reports the validations that are new, and returns the last of them."""
        last = None
        try:
            records = manifest.cell_folder(self._folder, mine.cell).records()
        except DamagedFile:
            # The cell's own process names it and measures again.
            return None
        for record in records:
            step = int(record["step"])
            if (record["split"], record["metric"]) != (self._space.objective.split, self._cells.metric):
                continue
            if step not in mine.reported:
                mine.trial.report(float(record["value"]), step)
                mine.reported.add(step)
                last = step, float(record["value"])
        return last

    def _tell(self, trial: optuna.Trial, result: Result) -> None:
        value = next(
            (
                row.value
                for row in result.rows
                if (row.metric, row.split) == (self._cells.metric, self._space.objective.split)
            ),
            None,
        )
        status, reason = result.status, result.reason
        if status is Status.OK and value is None:
            status, reason = Status.ERROR, f"its result has no {self._cells.metric} on {self._space.objective.split}"
        trial.set_user_attr(STATUS, status.value)
        if reason:
            trial.set_user_attr(REASON, reason)
        if status is Status.OK:
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=TrialState.PRUNED if status is Status.PRUNED else TrialState.FAIL)

    def _let_go(self, mine: _Open) -> None:
        del self._open[mine.trial.number]
        mine.held.release()


def _begun(trials: Collection[FrozenTrial]) -> int:
    """How many trials have begun; enqueued ones wait to be asked for."""
    return sum(trial.state != TrialState.WAITING for trial in trials)
