"""Cells in processes of their own: every way to end has its status, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bench.executors import memory_cgroup, process, verdict
from bench.executors.process import device_of
from bench.store.cell_folder import CellFolder
from bench.store.claim import claim
from models.registry import load_file

toys = load_file(Path(__file__).with_name("toy_studies.py"))


def test_every_way_to_end_has_its_status(tmp_path: Path) -> None:
    cells = [
        ("fine", {}),
        ("raises", {"deed": "raise"}),
        ("killed", {"deed": "kill"}),
        ("terminated", {"deed": "terminate"}),
        ("crashes", {"deed": "crash"}),
        ("leaves", {"deed": "leave"}),
        ("says", {"deed": "leave_with_words"}),
        ("hangs", {"deed": "hang", "time_limit_s": 0.3}),
    ]
    with toys.toy_study(tmp_path / "study", cells) as study:
        done = study.run(jobs=4)
        assert done.code == 1
        assert done.summary["counts"] == {"ok": 1, "timeout": 1, "error": 6}
        assert done.err == ""
        reasons = {name: study.folder(name).result().reason for name, _ in cells}
        assert reasons == {
            "fine": "",
            "raises": "RuntimeError: the toy is broken",
            "killed": "killed by SIGKILL",
            "terminated": "killed by SIGTERM",
            "crashes": "killed by SIGSEGV",
            "leaves": "its process left with exit code 3 and no result",
            "says": "its process left with exit code 1 and no result",
            "hangs": "not finished within 0.3 s, at train 3 of 5",
        }
        assert "training ended too early" in study.folder("says").result().traceback
        died = {name for name, _ in cells if study.folder(name).result().died}
        assert died == {"killed", "terminated", "crashes", "leaves", "says"}
        assert "in _raise" in study.folder("raises").result().traceback
        assert "Fatal Python error: Segmentation fault" in study.folder("crashes").result().traceback
        for name, _ in cells:
            result = study.folder(name).result()
            assert result.attempt == 1
            assert result.started
            assert result.provenance["python"], "a cell that was killed says where it ran as well"
            assert study.steps(name) == ([1, 2, 3, 4, 5] if name == "fine" else [1, 2]), "what was measured stays"
            assert "counting from 0" in study.folder(name).log_path.read_text()
        assert not study.processes()


def test_a_cell_that_the_kernel_killed_is_out_of_memory_and_goes_on_when_asked(tmp_path: Path) -> None:
    cells = [("greedy", {"deed": "kill_as_the_kernel_does", "at": 3}), ("killed", {"deed": "kill"}), ("fine", {})]
    (tmp_path / "kernel").mkdir()
    order = {"kernel": str(tmp_path / "kernel")}
    with toys.toy_study(tmp_path / "study", cells) as study:
        done = study.run(jobs=1, **order)
        assert (done.code, done.summary["counts"]) == (1, {"ok": 1, "error": 1, "oom": 1})
        assert study.statuses() == {"greedy": "oom", "killed": "error", "fine": "ok"}
        result = study.folder("greedy").result()
        assert (result.reason, result.rows) == ("killed by the system for want of memory", [])
        assert study.run(jobs=1, retry="oom", **order).code == 1
        assert study.starts() == {"greedy": 2, "killed": 1, "fine": 1}
        assert study.statuses()["greedy"] == "oom"
        assert study.folder("greedy").log_path.read_text().splitlines()[-1] == "counting from 2"


def test_a_cell_runs_apart_from_its_runner_with_its_environment(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "environment", "threads": 2})]) as study:
        assert study.run(environment={"TOY_VARIABLE": "as now", "OMP_NUM_THREADS": "7"}).code == 0
        facts = json.loads((study.folder("a").path / "environment.json").read_text())
    assert facts["toy_variable"] == "as now"
    assert facts["omp"] == "2", "the spec's threads, for what the cell starts"
    assert facts["session"]
    assert facts["server_threads"] == 1
    assert facts["main"] == "__mp_main__", "the runner's main module is not run again"


@pytest.mark.slow
def test_the_fork_server_has_pytorch_and_starts_cells_at_once(tmp_path: Path) -> None:
    cells = [(name, {"deed": "environment", "at": 1, "steps": 1, "threads": 2}) for name in ("first", "second")]
    with toys.toy_study(tmp_path / "study", cells) as study:
        assert study.run(jobs=1, preload=["torch", "pytorch_lightning"]).code == 0
        facts = [json.loads((study.folder(name).path / "environment.json").read_text()) for name, _ in cells]
        ended = study.folder("first").result_path.stat().st_mtime
        origin = study.folder("second").result().provenance
    for fact in facts:
        assert fact["lightning"]
        assert fact["cuda"] is False
        assert fact["server_threads"] == 1
        assert fact["torch_threads"] == 2, "the spec's threads, though the server had one"
    assert (origin["device"], origin["device_memory"]) == (origin["cpu"], origin["memory"])
    assert facts[1]["time"] - ended < 2.0, "not the time that importing PyTorch takes"


def test_what_a_cell_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "fork"}), ("b", {"deed": "fork"})]) as study:
        assert study.run(jobs=1).code == 0
        assert not study.processes()


def test_the_end_of_the_fork_server_is_not_the_end_of_its_cells(tmp_path: Path) -> None:
    cells = [("long", {"pause": 0.2, "steps": 6}), ("next", {})]
    with toys.toy_study(tmp_path / "study", cells) as study:
        runner = study.start(jobs=1)
        toys.wait_for(study.cell_processes, "the cell")
        server = parent_of(study.cell_processes()[0])
        assert server != runner.pid
        os.kill(server, signal.SIGKILL)
        done = toys.finish(runner)
        assert done.code == 0, done
        assert study.starts() == {"long": 1, "next": 1}
        assert study.steps("long") == [1, 2, 3, 4, 5, 6]


def parent_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "2 threads"),
        ("import os\nos._exit(1)", "fork server ended"),
    ],
    ids=["threads", "dies"],
)
def test_a_fork_server_that_is_not_clean_is_done_without_visibly(tmp_path: Path, module: str, why: str) -> None:
    (tmp_path / "unclean.py").write_text(module)
    path = os.pathsep.join([str(toys.CHECKOUT), str(tmp_path)])
    with toys.toy_study(tmp_path / "study", [("a", {}), ("b", {})]) as study:
        done = study.run(preload=["unclean"], environment={"PYTHONPATH": path})
        assert done.code == 0, done
        assert "without the fork server" in done.err
        assert why in done.err
        assert study.starts() == {"a": 1, "b": 1}
        assert study.folder("a").attempt() == 1


@pytest.mark.slow
def test_a_cell_that_cannot_end_itself_is_killed_some_time_after_its_limit(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {"deed": "hang_hard", "time_limit_s": 1.0})]) as study:
        began = time.monotonic()
        done = study.run()
        assert study.statuses() == {"a": "timeout"}, done
        assert 10 < time.monotonic() - began < 25
        assert not study.processes()


def test_a_cell_whose_code_cannot_be_imported_is_an_error_of_that_cell(tmp_path: Path) -> None:
    with toys.toy_study(tmp_path / "study", [("a", {})]) as study:
        done = study.run(function="no_such_module:run_cell")
        result = study.folder("a").result()
    assert done.code == 1
    assert result.status == "error"
    assert result.reason == "ModuleNotFoundError: No module named 'no_such_module'"


def test_a_cell_can_be_run_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    spec = toys.spec("a")
    folder = CellFolder(tmp_path / spec.id)
    folder.create(spec.to_json())
    first = process.run_here(folder, spec, "toy_cells:run_cell")
    assert first is not None
    assert first == folder.result()
    again = process.run_here(folder, spec, "toy_cells:run_cell")
    assert again is not None
    assert (again.status, again.attempt) == ("ok", 2)
    assert (folder.attempts / "1" / "result.json").exists()
    held = claim(folder)
    assert held is not None
    assert process.run_here(folder, spec, "toy_cells:run_cell") is None
    held.release()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-60, "killed by signal 60"),
        (0, "its process left with exit code 0 and no result"),
        (None, "its process ended without a result; how is not known"),
    ],
)
def test_an_exit_code_is_put_into_words(code: int | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cgroup, "kills", lambda: 0)
    assert verdict.reason(code) == reason


def test_where_the_kernel_counts_nothing_sigkill_may_mean_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cgroup, "kills", lambda: None)
    assert verdict.reason(-9) == "killed by SIGKILL, maybe by the system for want of memory"


@pytest.mark.parametrize(
    ("slot", "visible", "count", "device"),
    [
        (0, None, 0, None),
        (1, None, 1, None),
        (1, "3", 1, None),
        (0, None, 2, "0"),
        (3, None, 2, "1"),
        (1, "4, GPU-8a", 2, "GPU-8a"),
        (2, "4,5", 2, "4"),
    ],
)
def test_each_slot_has_its_gpu(slot: int, visible: str | None, count: int, device: Any) -> None:
    assert device_of(slot, visible, count) == device
