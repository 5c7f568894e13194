"""The device's lock: cells share it, the clock has it alone, and it goes with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.executors.device_lock import DeviceLock, device_name
from bench.executors.jobs import Job
from bench.executors.process import device_lock
from models.registry import load_file

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


@pytest.mark.parametrize(
    ("accelerator", "cuda", "slot", "count", "name"),
    [
        ("cpu", True, 0, 1, "cpu"),
        ("auto", False, 0, 0, "cpu"),
        ("auto", True, 0, 1, "cuda0"),
        ("gpu", True, 3, 2, "cuda1"),
        ("cuda", True, 1, 4, "cuda1"),
    ],
)
def test_a_device_has_one_name_for_cells_and_clock(
    accelerator: str, cuda: bool, slot: int, count: int, name: str
) -> None:
    assert device_name(accelerator, cuda, slot, count) == name


def test_a_cells_device_is_asked_for_without_starting_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def started() -> bool:
        raise AssertionError("CUDA was started before the cell chose its GPU")

    monkeypatch.setattr(torch.cuda, "is_available", started)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    job = Job("a", Path("a"), {"trainer": {"accelerator": "auto"}}, slot=3)
    assert device_lock(job).device == "cuda1"
    assert device_lock(Job("a", Path("a"), {"trainer": {"accelerator": "cpu"}})).device == "cpu"


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
