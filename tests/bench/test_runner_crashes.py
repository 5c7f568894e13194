"""Runs that are interrupted, killed, or not alone: nothing is lost, nothing runs twice, nothing runs on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from models.registry import load_file

toys = load_file(Path(__file__).with_name("toy_studies.py"))
LONG = {"steps": 200, "pause": 0.05}


def in_the_group(runner: subprocess.Popen[str], number: signal.Signals) -> None:
    """A signal for the runner and all of its process group, as a terminal sends Ctrl-C."""
    os.killpg(runner.pid, number)


def to_the_runner(runner: subprocess.Popen[str], number: signal.Signals) -> None:
    os.kill(runner.pid, number)


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (in_the_group, signal.SIGINT),
        pytest.param(in_the_group, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(to_the_runner, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(to_the_runner, signal.SIGHUP, marks=pytest.mark.slow),
    ],
    ids=["ctrl-c", "group", "terminated", "hung-up"],
)
def test_an_interrupted_run_ends_its_cells_and_can_be_resumed(
    tmp_path: Path, send: Any, number: signal.Signals
) -> None:
    cells = [("a", {"steps": 6, "pause": 0.15}), ("b", {"steps": 6, "pause": 0.15}), ("c", {})]
    with toys.toy_study(tmp_path / "study", cells) as study:
        runner = study.start(jobs=2)
        toys.wait_for(lambda: (study.folder("b").checkpoints / "last.json").exists(), "a checkpoint")
        began = time.monotonic()
        send(runner, number)
        done = toys.finish(runner)
        assert done.code == 130, done
        assert time.monotonic() - began < 30
        assert done.err == ""
        assert done.summary["interrupted"]
        assert "Traceback" not in done.out
        toys.wait_for(lambda: not study.processes(), "the fork server's end", 3)
        assert study.statuses() == {}
        assert done.summary["counts"] == {"interrupted": 2, "pending": 1}
        assert "Traceback" not in "".join(path.read_text() for path in study.path.rglob("log.txt"))

        assert study.run().code == 0
        assert study.steps("a") == study.steps("b") == [1, 2, 3, 4, 5, 6]
        log = (study.path / "cells" / "processes.log").read_text()
        assert '"from": 2, "fresh": false' in log or '"from": 4, "fresh": false' in log
        assert study.folder("b").attempt() == 1


@pytest.mark.slow
def test_ctrl_c_while_pytorch_is_imported_ends_the_run_at_once(tmp_path: Path) -> None:
    importing = tmp_path / "importing"
    (tmp_path / "slow_import.py").write_text(f"import time\nopen({str(importing)!r}, 'w').close()\ntime.sleep(12)\n")
    path = os.pathsep.join([str(toys.CHECKOUT), str(tmp_path)])
    with toys.toy_study(tmp_path / "study", [("a", {})]) as study:
        runner = study.start(preload=["slow_import"], environment={"PYTHONPATH": path})
        toys.wait_for(importing.exists, "the fork server")
        in_the_group(runner, signal.SIGINT)
        runner.wait(timeout=10)  # the server, which has the runner's output open too, is still importing
        done = toys.finish(runner)
        assert (done.code, done.err) == (130, "")
        assert study.starts() == {}
        toys.wait_for(lambda: not study.processes(), "the fork server's end", 60)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "hang_hard"})]) as study:
        runner = study.start()
        toys.wait_for(study.cell_processes, "the cell")
        time.sleep(0.3)
        in_the_group(runner, signal.SIGINT)
        time.sleep(0.7)
        assert runner.poll() is None
        began = time.monotonic()
        in_the_group(runner, signal.SIGINT)
        assert toys.finish(runner).code == 130
        assert time.monotonic() - began < 4.5  # less than the grace that cells are given
        assert study.statuses() == {}


def test_cells_that_a_scheduler_ends_before_their_runner_are_interrupted_not_failed(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", LONG), ("b", LONG)]) as study:
        runner = study.start()
        toys.wait_for(lambda: len(study.cell_processes()) == 2, "the cells")
        first, second = study.cell_processes()
        os.kill(first, signal.SIGTERM)
        os.kill(second, signal.SIGKILL)
        time.sleep(0.3)
        to_the_runner(runner, signal.SIGTERM)
        assert toys.finish(runner).code == 130
        assert study.statuses() == {}


def test_cells_end_with_their_runner_even_when_it_is_killed(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", LONG), ("b", {"deed": "fork", **LONG})]) as study:
        runner = study.start()
        toys.wait_for(lambda: len(study.steps("b")) > 4 if study.folder("b").metrics_path.exists() else False, "steps")
        assert len(study.processes()) >= 5, "runner, fork server, resource tracker, two cells, what one of them forked"
        runner.kill()
        toys.finish(runner)
        toys.wait_for(lambda: not study.processes(), "the end of all its processes", 2)
        steps = study.steps("a")
        time.sleep(0.2)
        assert study.steps("a") == steps


def test_two_runners_run_every_cell_once_and_both_report_all(tmp_path: Path) -> None:
    cells = [(f"cell{number}", {"pause": 0.02}) for number in range(8)]
    with toys.toy_study(tmp_path / "study", cells) as study:
        runners = [study.start(jobs=2) for _ in range(2)]
        for runner in runners:
            done = toys.finish(runner)
            assert done.code == 0, done
            assert done.summary["counts"] == {"ok": 8}
        assert study.starts() == {name: 1 for name, _ in cells}
        assert {study.folder(name).result().attempt for name, _ in cells} == {1}


@pytest.mark.slow
def test_two_runners_retry_every_cell_once(tmp_path: Path) -> None:
    cells = [(f"cell{number}", {"deed": "raise", "pause": 0.05}) for number in range(4)]
    with toys.toy_study(tmp_path / "study", cells) as study:
        study.run(jobs=4)
        runners = [study.start(jobs=2, retry="failed") for _ in range(2)]
        for runner in runners:
            assert toys.finish(runner).summary["counts"] == {"error": 4}
        # One that began when the other had finished a cell already was asked to retry that result too.
        assert all(2 <= number <= 3 for number in study.starts().values())
        for name, _ in cells:
            assert study.folder(name).result().attempt == study.starts()[name]


@pytest.mark.slow
def test_a_runner_takes_over_the_cells_of_one_that_dies(tmp_path: Path) -> None:
    cells = [("a", {"steps": 16, "pause": 0.1}), ("b", {})]
    with toys.toy_study(tmp_path / "study", cells) as study:
        first = study.start(jobs=1)
        toys.wait_for(lambda: (study.folder("a").checkpoints / "last.json").exists(), "a checkpoint")
        study.cells = [("a", {"steps": 16, "pause": 0.1})]
        second = study.start()
        time.sleep(0.6)
        assert study.starts() == {"a": 1}, "it waits for the one that has the cell"
        first.kill()
        toys.finish(first)
        done = toys.finish(second)
        assert done.code == 0, done
        assert study.starts() == {"a": 2}
        assert study.steps("a") == list(range(1, 17))
        assert '"fresh": false' in (study.path / "cells" / "processes.log").read_text().splitlines()[1]


@pytest.mark.slow
def test_a_cell_that_kills_its_process_does_not_go_from_runner_to_runner(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "kill", "at": 2, "pause": 0.5})]) as study:
        runners = [study.start() for _ in range(2)]
        for runner in runners:
            assert toys.finish(runner).summary["counts"] == {"error": 1}
        assert study.starts()["a"] <= 2


def test_a_runner_that_is_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"pause": 0.1}), ("b", {"pause": 0.1})]) as study:
        runner = study.start(jobs=1)
        toys.wait_for(study.cell_processes, "the cell")
        runner.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        runner.send_signal(signal.SIGCONT)
        assert toys.finish(runner).code == 0


def test_a_cell_whose_folder_is_deleted_is_run_again(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"steps": 8, "pause": 0.1}), ("b", {})]) as study:
        runner = study.start(jobs=1)
        toys.wait_for(study.cell_processes, "the cell")
        shutil.rmtree(study.folder("b").path)  # before a's, whose end makes the runner turn to b
        shutil.rmtree(study.folder("a").path, ignore_errors=True)
        done = toys.finish(runner)
        assert done.code == 0, done
        assert study.steps("a") == list(range(1, 9))


def survive(study: Any, seed: int, kills: int, everything: bool) -> None:
    """Kills processes of the study's runner at random moments, and runs it again until nothing is left to do."""
    chance = random.Random(seed)
    for _ in range(kills):
        runner = study.start(jobs=2)
        time.sleep(chance.uniform(0.15, 0.9))
        if everything:
            victims = list(study.processes())
            chance.shuffle(victims)
            for victim in victims[: chance.randint(1, len(victims) or 1)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            time.sleep(chance.uniform(0, 0.05))
        runner.kill()
        toys.finish(runner)
        toys.wait_for(lambda: not study.processes(), "the end of all its processes", 5)
    done = study.run(jobs=2, retry="failed")
    assert done.code == 0, done
    assert done.summary["damaged"] == []
    for name, train in study.cells:
        assert study.steps(name) == list(range(1, train["steps"] + 1)), name
        assert study.folder(name).result().status == "ok"
        leftovers = [path.name for path in study.folder(name).path.rglob("*") if ".unfinished" in path.name]
        assert not leftovers


@pytest.mark.slow
def test_a_study_survives_its_runner_being_killed_at_any_moment(tmp_path: Path) -> None:
    cells = [(f"cell{number}", {"steps": 12, "pause": 0.02}) for number in range(5)]
    with toys.toy_study(tmp_path / "study", cells) as study:
        survive(study, seed=0, kills=3, everything=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_study_survives_any_of_its_processes_being_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    cells = [(f"cell{number}", {"steps": 30, "pause": 0.02}) for number in range(8)]
    with toys.toy_study(tmp_path / "study", cells) as study:
        survive(study, seed, kills=10, everything=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_runners_that_come_and_go_run_every_cell_to_its_end(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    cells = [(f"cell{number}", {"steps": 30, "pause": 0.02}) for number in range(10)]
    with toys.toy_study(tmp_path / "study", cells) as study:
        for _ in range(6):
            runners = [study.start(jobs=2) for _ in range(3)]
            time.sleep(chance.uniform(0.3, 1.5))
            for runner in chance.sample(runners, 2):
                runner.kill()
            for runner in runners:
                toys.finish(runner)
        assert study.run(jobs=2).code == 0
        for name, _ in cells:
            assert study.steps(name) == list(range(1, 31))
