"""The device's lock: cells share it, the clock has it alone, and it goes with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.devices import device_name
from bench.executors import process
from bench.executors.device_lock import DeviceLock
from bench.executors.jobs import Job
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.result import Result, Row
from bench.store.statuses import Status
from models.registry import load_file

tiny = load_file(Path(__file__).parent / "clock" / "tiny_cells.py")
toys = load_file(Path(__file__).with_name("toy_studies.py"))
ALONE = (
    "from bench.executors.device_lock import DeviceLock as L; l = L('test'); l.have_alone(); print('mine', flush=True)"
)


class Waits(Exception):
    """Raised where a lock would wait, instead of waiting."""


def waits(take: str, device: str = "test") -> bool:
    """Whether somebody else who takes the lock would have to wait."""

    def waiting() -> None:
        raise Waits

    lock = DeviceLock(device)
    try:
        getattr(lock, take)(waiting)
    except Waits:
        return True
    finally:
        lock.release()
    return False


def test_cells_share_it_and_the_clock_has_it_alone() -> None:
    first, second = DeviceLock("test"), DeviceLock("test")
    first.share()
    second.share()
    assert not waits("share")
    second.release()
    second.release()
    assert waits("have_alone")
    first.release()
    first.have_alone()
    assert waits("share")
    assert not waits("have_alone", "another device")
    first.release()
    assert not waits("have_alone")


def test_who_waits_is_told_once_and_gets_it_when_it_is_free() -> None:
    holder, waiter = DeviceLock("test"), DeviceLock("test")
    holder.have_alone()
    told: list[float] = []
    thread = threading.Thread(target=lambda: waiter.share(lambda: told.append(time.monotonic())))
    thread.start()
    while not told:
        time.sleep(0.01)
    time.sleep(0.1)
    assert thread.is_alive()
    holder.release()
    thread.join(5)
    assert not thread.is_alive()
    assert len(told) == 1
    waiter.release()


def test_it_goes_with_its_process_however_that_ends(checkout: Path) -> None:
    code = f"{ALONE}; import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=checkout, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        assert waits("share")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not waits("have_alone")


def test_what_its_process_starts_does_not_keep_it(checkout: Path) -> None:
    code = f"{ALONE}; import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, stdout=subprocess.DEVNULL, timeout=30)
    assert not waits("have_alone")


SMI = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11aa0000-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22bb0000-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-33cc0000-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-44dd0000-0000-0000-0000-000000000000)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-55ee0000-0000-0000-0000-000000000000)
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three GPUs, as far as PyTorch and nvidia-smi tell."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n[ \"$*\" = -L ] || exit 6\ncat <<'END'\n{SMI}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "cuda0"),
        ("1", "cuda1"),
        (" 2 ,0", "cuda2"),
        ("GPU-22bb0000-0000-0000-0000-000000000000", "cuda1"),
        ("GPU-55", "cuda2"),
        ("MIG-44dd0000-0000-0000-0000-000000000000", "cuda1"),
        ("MIG-GPU-77/1/0", "cuda-MIG-GPU-77-1-0"),
    ],
)
def test_a_gpu_is_called_by_its_number_on_the_machine_whatever_a_process_may_see(
    gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, name: str
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device_name(accelerator) for accelerator in ("auto", "gpu", "cuda")] == [name] * 3
    assert device_name("cpu") == "cpu"
    assert DeviceLock(name).path.name.endswith(f"-{name}.lock")


def test_without_nvidia_smi_a_gpu_is_called_as_it_was_chosen(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-22bb")
    assert device_name("auto") == "cuda-GPU-22bb"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert device_name("auto") == "cuda1"


def test_where_pytorch_finds_no_gpu_all_compute_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # A driver that is too old for this PyTorch: it counts GPUs, and cannot use them.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert {device_name(accelerator) for accelerator in ("auto", "gpu", "cpu", "mps")} == {"cpu"}


@pytest.mark.parametrize(
    ("visible", "slot", "name"),
    [(None, 0, "cuda0"), (None, 4, "cuda1"), ("2,1,0", 0, "cuda2"), ("0,GPU-55,1", 1, "cuda2")],
)
def test_a_cell_locks_the_gpu_of_its_slot_which_it_chooses_before_cuda_starts(
    gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, slot: int, name: str
) -> None:
    import torch

    chosen: list[str | None] = []
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    def started() -> bool:
        chosen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        return True

    class Reached(BaseException):
        """What comes after the lock is another test's."""

    class Runner:
        close = None

        def send(self, message: object) -> None:
            raise Reached

    locked: list[DeviceLock] = []

    def lock(spec: dict[str, object]) -> DeviceLock:
        locked.append(device_lock(spec))
        return locked[0]

    device_lock = process.device_lock
    monkeypatch.setattr(torch.cuda, "is_available", started)
    monkeypatch.setattr(process, "device_lock", lock)
    for name_of_other in ("stand_alone", "claim", "_log_to"):
        monkeypatch.setattr(process, name_of_other, lambda *_, **__: True)
    monkeypatch.setattr("bench.executors.process.attempt.begin", lambda *_: [])
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    job = Job("a", Path("a"), {"trainer": {"accelerator": "auto", "devices": 1}}, slot=slot)
    with pytest.raises(Reached):
        process.enter(replace(job, environment=dict(os.environ)), Runner())  # type: ignore[arg-type]
    (held,) = locked
    try:
        assert held.device == name
        assert waits("have_alone", name)
        assert len(chosen) == 1
        assert chosen[0] is not None
        assert "," not in chosen[0]
    finally:
        held.release()


def test_a_cell_in_this_process_waits_while_the_clock_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DeviceLock("cpu")
    clock.have_alone()
    events: list[str] = []

    def compute(spec: CellSpec, *_: object) -> Result:
        events.append(f"computes, {'locked' if waits('have_alone', 'cpu') else 'not locked'}")
        return Result(spec.id, Status.OK, rows=[Row("bpb", 1.0, "bits/byte", "test")])

    def waiting() -> None:
        events.append("waits")
        clock.release()

    monkeypatch.setattr(process, "compute", compute)
    try:
        spec = tiny.spec(tiny.write_text(tmp_path), "transformer_xl")
        folder = CellFolder(tmp_path / "cells" / spec.id)
        folder.create(spec.to_json())
        assert process.run_here(folder, spec, waiting=waiting) is not None
    finally:
        clock.release()
    assert events == ["waits", "computes, locked"]
    assert not waits("have_alone", "cpu")


@pytest.mark.slow
def test_a_cell_waits_while_the_clock_measures_and_its_time_begins_then(tmp_path: Path) -> None:
    clock = DeviceLock("cpu")
    clock.have_alone()
    try:
        with toys.toy_study(tmp_path / "study", [("a", {"time_limit_s": 3})]) as study:
            runner = study.start()
            toys.wait_for(lambda: study.folder("a").log_path.exists(), "the cell's process")
            time.sleep(3.5)
            assert runner.poll() is None
            assert study.starts() == {}, "it has not begun"
            clock.release()
            done = toys.finish(runner)
            assert (done.code, study.statuses()) == (0, {"a": "ok"})
            assert study.folder("a").result().seconds < 3
    finally:
        clock.release()


def test_a_cell_that_waits_for_the_clock_can_be_interrupted(tmp_path: Path) -> None:
    clock = DeviceLock("cpu")
    clock.have_alone()
    try:
        with toys.toy_study(tmp_path / "study", [("a", {})]) as study:
            runner = study.start()
            toys.wait_for(lambda: study.folder("a").log_path.exists(), "the cell's process")
            time.sleep(0.2)
            os.kill(runner.pid, signal.SIGINT)
            assert toys.finish(runner).code == 130
            assert study.statuses() == {}
            clock.release()
            assert study.run().code == 0
    finally:
        clock.release()
