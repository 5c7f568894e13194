"""Trials of a sweep: how many there are, what becomes of interrupted ones, which are pruned, which fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from bench.store import manifest
from bench.store.statuses import Status
from models.registry import load_file
from sweeps import search, storage

toys = load_file(Path(__file__).with_name("toy_sweeps.py"))

RANGE = {"train.x": {"low": 0.0, "high": 1.0}}


def test_trials_are_cells_of_a_study_and_the_best_is_told(tmp_path: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE, trials=4, jobs=2) as sweep:
        said = sweep.run()
        lines = sweep.lines()
        assert said["study"] == "sweep"
        assert said["counts"] == {"complete": 4, "pruned": 0, "failed": 0, "running": 0}
        values = [line.value for line in lines]
        assert said["best"]["value"] == min(values)
        assert values == pytest.approx([line.parameters["train.x"] + 1 / 5 for line in lines])
        assert [line.step for line in lines] == [5] * 4
        listed = manifest.read(tmp_path / "sweep")
        assert {cell["cell"] for cell in listed.cells} == {line.cell for line in lines}
        assert not any(start["optuna"] for start in sweep.starts())


@pytest.mark.slow
def test_trials_is_the_total_over_all_runs(tmp_path: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE) as sweep:
        first = sweep.run(trials=2)["counts"]["complete"]
        again = sweep.run(trials=2)["counts"]["complete"]
        more = sweep.run(trials=3)["counts"]["complete"]
        assert (first, again, more) == (2, 2, 3)
        assert len(sweep.starts()) == 3
        assert len({line.parameters["train.x"] for line in sweep.lines()}) == 3, "a sweep that goes on repeats nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        signal.SIGINT,
        signal.SIGTERM,
    ],
)
def test_an_interrupted_trial_goes_on_under_its_number_from_its_checkpoint(tmp_path: Path, number: int) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE, trials=2, cells={"steps": 15, "pause": 0.1}) as sweep:
        worker = sweep.start()
        toys.wait_for(lambda: list((tmp_path / "sweep" / "cells").glob("*/checkpoints/last.json")), "a checkpoint")
        worker.send_signal(number)
        worker.communicate(timeout=60)
        assert worker.returncode == (-number if number == signal.SIGKILL else 130)
        (before,) = sweep.lines()
        toys.wait_for(lambda: sweep.lines()[0].state == "interrupted", "the trial to be free")
        assert sweep.run()["counts"] == {"complete": 2, "pruned": 0, "failed": 0, "running": 0}
        after = sweep.lines()[0]
        assert (after.cell, after.parameters) == (before.cell, before.parameters)
        starts = [start for start in sweep.starts() if start["cell"] == after.cell]
        assert len(starts) == 2
        assert starts[1]["from"] > 0


@pytest.mark.slow
def test_workers_share_one_sweep_and_no_trial_is_run_twice(tmp_path: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE, trials=7, jobs=2, cells={"pause": 0.1}) as sweep:
        workers = [sweep.start() for _ in range(3)]
        said = [sweep.finish(worker) for worker in workers]
        assert [each["counts"]["complete"] for each in said] == [7, 7, 7], "each waits for all trials"
        assert len(sweep.lines()) == 7
        assert set(sweep.starts_per_cell().values()) == {1}


@pytest.mark.slow
def test_a_worker_takes_up_what_a_killed_one_had(tmp_path: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE, trials=2, cells={"steps": 60, "pause": 0.1}) as sweep:
        first = sweep.start()
        toys.wait_for(lambda: sweep.starts(), "the first cell")
        second = sweep.start()
        toys.wait_for(lambda: len(sweep.starts()) == 2, "the second cell")
        first.kill()
        first.communicate()
        assert sweep.finish(second)["counts"]["complete"] == 2
        assert sorted(sweep.starts_per_cell().values()) == [1, 2]


def bad_after_good(**more: Any) -> dict[str, Any]:
    """An order of two trials, of which the second is the bad one."""
    parameters = {"train.x": {"choices": [0.0, 5.0]}}
    space_of = load_file(Path(__file__).with_name("toy_trials.py")).space
    for seed in range(50):
        study, space = optuna.create_study(), space_of(parameters, seed)
        if [search.suggest(study.ask(), space)["train.x"] for _ in range(2)] == [0.0, 5.0]:
            return {"parameters": parameters, "seed": seed, "trials": 2, **more}
    raise AssertionError("no seed gives this order")


@pytest.mark.slow
@pytest.mark.parametrize(
    "pruner",
    [
        {"kind": "median", "warmup_steps": 4, "startup_trials": 1},
        {"kind": "successive_halving", "warmup_steps": 4, "reduction_factor": 2},
    ],
)
def test_a_bad_trial_is_pruned_after_the_warm_up(tmp_path: Path, pruner: dict[str, Any]) -> None:
    order = bad_after_good(pruner=pruner, cells={"steps": 20, "pause": 0.1})
    with toys.toy_sweep(tmp_path / "sweep", **order) as sweep:
        said = sweep.run()
        assert said["counts"] == {"complete": 1, "pruned": 1, "failed": 0, "running": 0}
        good, bad = sweep.lines()
        assert (good.state, bad.state) == ("complete", "pruned")
        result = sweep.result(1)
        assert result.status is Status.PRUNED
        assert pruner["kind"] in result.reason
        assert result.reason == bad.reason
        assert 4 <= bad.step < 20
        assert bad.value == pytest.approx(5 + 1 / bad.step), "the last validation"
        assert said["best"]["trial"] == 0


@pytest.mark.slow
def test_pruning_is_finished_where_its_worker_was_killed(tmp_path: Path) -> None:
    order = bad_after_good(
        pruner={"kind": "median", "warmup_steps": 4, "startup_trials": 1}, cells={"steps": 20, "pause": 0.1}
    )
    with toys.toy_sweep(tmp_path / "sweep", **order) as sweep:
        sweep.run(trials=1)
        worker = sweep.start(pruner={"kind": "none"})
        toys.wait_for(lambda: len(sweep.lines()) == 2 and (sweep.lines()[1].step or 0) > 4, "validations")
        worker.kill()
        worker.communicate()
        toys.wait_for(lambda: sweep.lines()[1].state == "interrupted", "the trial to be free")
        # As a worker leaves it that is killed between its decision and the cell's result.
        study = sweep.study()
        study._storage.set_trial_user_attr(study.trials[1]._trial_id, "pruning", "at step 4 of 20")
        starts = len(sweep.starts())
        assert sweep.run()["counts"] == {"complete": 1, "pruned": 1, "failed": 0, "running": 0}
        assert sweep.result(1).reason == "at step 4 of 20"
        assert len(sweep.starts()) == starts, "it is not trained any further"


@pytest.mark.slow
def test_failed_trials_say_why_and_the_sweep_goes_on(tmp_path: Path) -> None:
    parameters = {**RANGE, "train.deed": {"choices": ["", "oom", "diverged", "error"]}}
    with toys.toy_sweep(tmp_path / "sweep", parameters=parameters, trials=8, jobs=2, seed=2) as sweep:
        said = sweep.run()
        lines = sweep.lines()
        assert said["counts"]["failed"] == sum(bool(line.parameters["train.deed"]) for line in lines) > 0
        assert said["counts"]["complete"] == 8 - said["counts"]["failed"] > 0
        for line in lines:
            assert line.status == (line.parameters["train.deed"] or "ok")
            assert line.reason == (f"the toy was told so: {line.status}" if line.state == "failed" else "")


@pytest.mark.slow
def test_a_result_of_the_same_cell_serves_a_second_trial(tmp_path: Path) -> None:
    parameters = {"train.x": {"choices": [0.0, 1.0]}}
    with toys.toy_sweep(tmp_path / "sweep", parameters=parameters, trials=5, jobs=2) as sweep:
        assert sweep.run()["counts"]["complete"] == 5
        assert len(sweep.starts()) == 2


@pytest.mark.slow
def test_a_journal_line_that_a_killed_worker_left_half_written_spoils_nothing(tmp_path: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE) as sweep:
        sweep.run(trials=1)
        with open(tmp_path / "sweep" / storage.JOURNAL, "a") as journal:
            journal.write('{"op_code": 4, "worker')
        assert sweep.run(trials=2)["counts"]["complete"] == 2


@pytest.mark.slow
def test_status_of_a_running_sweep_is_seen_from_outside(tmp_path: Path, checkout: Path) -> None:
    with toys.toy_sweep(tmp_path / "sweep", parameters=RANGE, trials=1, cells={"steps": 60, "pause": 0.1}) as sweep:
        worker = sweep.start()
        toys.wait_for(lambda: sweep.starts(), "the cell")
        command = ["python", "-m", "sweeps", "status", str(tmp_path / "sweep")]
        done = subprocess.run([sys.executable, *command[1:]], cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        assert said == {
            "study": "sweep",
            "counts": {"complete": 0, "pruned": 0, "failed": 0, "running": 1},
            "best": None,
        }
        worker.kill()
        worker.communicate()
