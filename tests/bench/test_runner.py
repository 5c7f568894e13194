"""Running a study: what is run, what is kept, what is said."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import runner
from bench.executors.jobs import Ended, How, Job
from bench.store import manifest
from bench.store.cell_folder import CellFolder
from bench.store.claim import is_locked
from bench.store.study_status import study_status
from models.errors import SettingsError
from models.registry import load_file

toys = load_file(Path(__file__).with_name("toy_studies.py"))


def test_a_study_that_is_run_again_runs_nothing(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {}), ("b", {"deed": "raise"})]) as study:
        first, second = study.run(), study.run()
        assert first.summary == second.summary
        assert first.summary == {
            "study": "study",
            "cells": 2,
            "counts": {"ok": 1, "error": 1},
            "interrupted": False,
            "damaged": [],
        }
        assert (first.code, second.code) == (1, 1)
        assert study.starts() == {"a": 1, "b": 1}
        assert "2 done before, 0 to run" in second.out


def test_cells_that_are_asked_for_later_join_the_study(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {})]) as study:
        assert study.run().code == 0
        study.cells = [("b", {})]
        done = study.run()
        assert done.summary["cells"] == 1
        study.cells = [("a", {}), ("b", {})]
        assert study.run().summary["counts"] == {"ok": 2}
        assert study.starts() == {"a": 1, "b": 1}


@pytest.mark.slow
def test_retry_runs_what_it_names_and_keeps_what_it_replaces(tmp_path: Path) -> None:
    cells = [
        ("fine", {}),
        ("raises", {"deed": "raise"}),
        ("hangs", {"deed": "hang", "time_limit_s": 0.3}),
        ("dies", {"deed": "crash"}),
    ]
    with toys.toy_study(tmp_path / "study", cells) as study:
        study.run()
        assert study.statuses() == {"fine": "ok", "raises": "error", "hangs": "timeout", "dies": "error"}
        study.run(retry="oom")
        assert study.starts() == {"fine": 1, "raises": 1, "hangs": 1, "dies": 1}
        study.run(retry="failed")
        assert study.starts() == {"fine": 1, "raises": 2, "hangs": 2, "dies": 2}
        for name in ("raises", "hangs", "dies"):
            folder = study.folder(name)
            kept = json.loads((folder.attempts / "1" / "result.json").read_text())
            assert (kept["attempt"], folder.result().attempt) == (1, 2)
        log = [json.loads(line) for line in (study.path / "cells" / "processes.log").read_text().splitlines()]
        last = {line["cell"].split("--")[0]: (line["from"], line["fresh"]) for line in log}
        assert last["raises"] == (0, True), "an error starts afresh"
        assert last["hangs"] == (2, False), "a timeout goes on from its checkpoint"
        assert last["dies"] == (2, False), "and so does a cell whose process died"
        study.run(retry="all")
        assert study.folder("fine").attempt() == 2
    with pytest.raises(SettingsError, match="--retry"):
        runner.run_study(tmp_path / "other", [], retry="everything")
    assert not (tmp_path / "other").exists()


def test_a_cell_with_a_longer_limit_goes_on_where_the_short_one_stopped_it(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"pause": 0.1, "steps": 6, "time_limit_s": 0.4})]) as study:
        study.run()
        assert study.statuses() == {"a": "timeout"}
        done_before = len(study.steps("a"))
        assert 1 <= done_before < 6
        study.cells = [("a", {"pause": 0.1, "steps": 6, "time_limit_s": 60})]
        assert study.run().code == 1, "a result stays until it is asked for"
        assert study.run(retry="failed").code == 0
        assert study.steps("a") == [1, 2, 3, 4, 5, 6]
        result = study.folder("a").result()
        assert result.attempt == 2


def test_a_cell_that_its_process_gives_up_is_interrupted_not_failed_and_goes_on(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "give_up_once"}), ("b", {})]) as study:
        done = study.run(jobs=1)
        assert done.code == 1
        assert done.summary["counts"] == {"ok": 1, "interrupted": 1}
        assert "a--toy--s0" in done.err
        assert "last.ckpt cannot be read: Input/output error" in done.err
        assert study.starts() == {"a": 1, "b": 1}
        assert study.run().code == 0, "without --retry"
        assert study.steps("a") == [1, 2, 3, 4, 5]
        assert study.folder("a").result().attempt == 1
        last = json.loads((study.path / "cells" / "processes.log").read_text().splitlines()[-1])
        assert (last["from"], last["fresh"]) == (2, False)


def test_a_damaged_result_is_named_and_its_cell_run_again(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {}), ("b", {})]) as study:
        study.run()
        path = study.folder("a").result_path
        path.write_bytes(path.read_bytes()[:40])
        done = study.run()
        assert done.code == 0
        assert done.summary["damaged"] == done.err.splitlines()
        assert f"{study.folder('a').cell}/result.json is damaged" in done.err
        assert study.starts() == {"a": 2, "b": 1}
        assert (study.folder("a").attempts / "1" / "result.json").stat().st_size == 40


def test_damaged_metrics_and_manifests_are_named_and_made_again(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {}), ("b", {})]) as study:
        study.run()
        study.folder("a").result_path.unlink()
        study.folder("a").metrics_path.write_bytes(b"\0\0\0\n")
        (study.path / "manifest.json").write_text('{"version": 1')
        done = study.run()
        assert done.code == 0
        assert "study/manifest.json is damaged" in done.err
        assert "metrics.jsonl is damaged: line 1" in done.err
        assert study.steps("a") == [1, 2, 3, 4, 5]
        assert (study.folder("a").attempts / "1" / "metrics.jsonl").read_bytes() == b"\0\0\0\n"


def test_each_cells_end_stands_on_a_line_with_its_main_metric_or_reason(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {}), ("b", {"deed": "raise"})]) as study:
        done = study.run(jobs=1)
        lines = done.out.splitlines()
        assert lines[0] == "study study: 2 cells, 2 to run, 1 at a time"
        assert re.fullmatch(r"\[1/2\] ok +a--\S+  count 5 steps  0 s", lines[1])
        assert re.fullmatch(r"\[2/2\] error +b--\S+  RuntimeError: the toy is broken  0 s", lines[2])
        assert len(lines) == 4


class OneThatDies:
    """An executor whose cells all leave without a result."""

    def __init__(self, jobs: int, say: Callable[[str], None]) -> None:
        self.jobs: list[Job] = []

    def free(self) -> int:
        return 1 - len(self.jobs)

    def running(self) -> list[Job]:
        return self.jobs

    def start(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, timeout: float, wake: int | None) -> list[Ended]:
        ended = [Ended(job, How.LEFT, 1, 0.0) for job in self.jobs]
        self.jobs = []
        return ended

    def prune(self, cell: str, reason: str) -> None:
        raise AssertionError("nothing is pruned here")

    def stop(self, hurry: Callable[[], bool]) -> None:
        self.jobs = []


def test_a_disk_that_is_full_ends_the_run_in_good_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CellFolder, "write_result", full)
    specs = [toys.spec("a"), toys.spec("b")]
    summary = runner.run_study(tmp_path / "study", specs, make_executor=OneThatDies)
    assert summary.exit_code == 1
    assert not summary.interrupted
    assert summary.counts == {"interrupted": 1, "pending": 1}
    assert "the run cannot go on: [Errno 28] No space left on device" in capsys.readouterr().err
    assert not is_locked(manifest.cell_folder(tmp_path / "study", specs[0].id))


def test_a_study_is_named_after_its_folder_however_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runner.run_study(Path("."), [toys.spec("a")], make_executor=OneThatDies).study == tmp_path.name
    assert study_status(Path(".")).study == tmp_path.name


def test_quiet_leaves_only_the_json_and_problems(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {})]) as study:
        done = study.run(quiet=True)
        assert len(done.out.splitlines()) == 1
        assert done.err == ""
        study.folder("a").result_path.write_text("{")
        assert "is damaged" in study.run(quiet=True).err


@pytest.mark.slow
def test_a_long_run_says_every_ten_seconds_where_it_is(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"steps": 12, "pause": 1.0}), ("b", {})]) as study:
        done = study.run(jobs=2)
        summaries = [line for line in done.out.splitlines() if " running" in line]
        assert len(summaries) == 1
        assert re.fullmatch(r"1/2 done \(1 ok\), 1 running: a--\S+ train \d+/12", summaries[0])


def test_on_a_terminal_there_is_a_live_table(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"steps": 3, "pause": 0.5}), ("b", {"deed": "raise"})]) as study:
        ours, theirs = pty.openpty()
        order = json.dumps({"cells": study.cells, "jobs": 2})
        process = subprocess.Popen(
            [sys.executable, str(toys.RUNNER), str(study.path), order],
            env={**os.environ, "PYTHONPATH": str(toys.CHECKOUT), "TERM": "xterm", "COLUMNS": "150", "LINES": "40"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        os.close(ours)
        assert process.wait() == 1
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
        assert "1/2 done (1 error), 1 running" in text
        assert re.search(r"train \d/3", text)
        assert "RuntimeError: the toy is broken" in text
        assert json.loads(text.splitlines()[-1])["counts"] == {"ok": 1, "error": 1}


def test_a_study_outlives_the_reader_of_its_lines(tmp_path: Path) -> None:
    cells = [(name, {"pause": 0.1, "steps": 2}) for name in "abc"]
    with toys.toy_study(tmp_path / "study", cells) as study:
        process = study.start(jobs=1)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=30)
        assert study.statuses() == {"a": "ok", "b": "ok", "c": "ok"}
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.slow
def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "hang"}), ("b", {"deed": "hang"})]) as study:
        process = study.start()
        toys.wait_for(lambda: len(study.cell_processes()) == 2, "the cells")
        before = cpu_seconds(process.pid)
        time.sleep(3)
        assert cpu_seconds(process.pid) - before < 0.15


def cpu_seconds(process: int) -> float:
    """CPU seconds of a process, its own and the system's for it."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
