"""Claims: one process at a time, whatever dies, and nothing that is left behind keeps a cell."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.store import atomic, heartbeat
from bench.store import claim as claim_module
from bench.store.cell_folder import CellFolder
from bench.store.claim import claim, is_held, is_locked
from bench.store.damaged import read_json
from bench.store.heartbeat import Heartbeat, Watch

HOLDER = """
import sys, time
from pathlib import Path
from bench.store.cell_folder import CellFolder
from bench.store.claim import claim
held = claim(CellFolder(Path(sys.argv[1])))
print("no" if held is None else "held", flush=True)
{then}
"""


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    made = CellFolder(tmp_path / "a")
    made.create({"task": "toy"})
    return made


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def hold(folder: CellFolder, then: str = "time.sleep(60)") -> tuple[subprocess.Popen[str], str]:
    """Another process that tries to claim the cell; and what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then), str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def another_machines(folder: CellFolder, counter: int = 7) -> Heartbeat:
    beat = Heartbeat("somebody", "another machine", counter, "train", 3, 10)
    beat.write(folder.heartbeat_path)
    return beat


def test_only_one_claim_at_a_time_even_in_one_process(folder: CellFolder) -> None:
    first = claim(folder)
    assert first is not None
    assert claim(folder) is None
    assert is_held(folder)
    first.release()
    first.release()
    assert not is_held(folder)
    assert not folder.heartbeat_path.exists()
    second = claim(folder)
    assert second is not None
    second.release()


def test_a_claim_ends_with_its_process_however_that_ends(
    folder: CellFolder, holders: list[subprocess.Popen[str]]
) -> None:
    process, word = hold(folder)
    holders.append(process)
    assert word == "held"
    assert is_locked(folder)
    assert claim(folder) is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_held(folder)
    taken = claim(folder)
    assert taken is not None
    taken.release()


def test_opening_and_closing_the_lock_file_does_not_let_go_of_it(folder: CellFolder) -> None:
    held = claim(folder)
    assert held is not None
    with open(folder.lock_path) as file:
        file.read()
    assert is_locked(folder)
    held.release()


@pytest.mark.parametrize(
    "leave",
    [
        "import os\nif os.fork() == 0:\n    print(os.getpid(), flush=True); time.sleep(60)\n",
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)\n",
        "import multiprocessing\n"
        "worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "worker.start(); print(worker.pid, flush=True)\n",
    ],
    ids=["fork", "exec", "multiprocessing"],
)
def test_a_process_left_behind_does_not_keep_the_cell(
    folder: CellFolder, holders: list[subprocess.Popen[str]], leave: str
) -> None:
    process, word = hold(folder, leave + "time.sleep(60)")
    holders.append(process)
    assert word == "held"
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    try:
        time.sleep(0.1)
        assert is_locked(folder), "the grandchild has taken the lock away from its parent"
        process.kill()
        process.wait()
        os.kill(grandchild, 0)
        taken = claim(folder)
        assert taken is not None
        taken.release()
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_those_who_only_look_do_not_keep_others_from_claiming(folder: CellFolder) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_locked(folder)

    folder.lock_path.touch()
    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            held = claim(folder)
            assert held is not None
            held.release()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_claim_on_a_deleted_lock_file_is_lost(folder: CellFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "BEAT_S", 0.05)
    lost = threading.Event()
    held = claim(folder, on_lost=lost.set)
    assert held is not None
    folder.lock_path.unlink()
    second = claim(folder)
    assert lost.wait(5)
    held.release()
    assert second is None or folder.heartbeat_path.exists()
    if second is not None:
        second.release()


def test_the_heartbeat_says_how_far_the_cell_is(folder: CellFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "BEAT_S", 0.05)
    held = claim(folder)
    assert held is not None
    held.progress("train", 300, 1400)
    deadline = time.monotonic() + 5
    beat = None
    while time.monotonic() < deadline and (beat is None or beat.step != 300 or beat.counter < 2):
        beat = heartbeat.read(folder.heartbeat_path)
        time.sleep(0.01)
    held.release()
    assert beat is not None
    assert (beat.phase, beat.step, beat.steps) == ("train", 300, 1400)
    assert held.where() == "train 300 of 1400"
    assert not beat.foreign
    content = str(beat)
    assert os.uname().nodename not in content


def test_what_this_machine_left_is_taken_at_once(folder: CellFolder) -> None:
    replace(another_machines(folder), machine=heartbeat.machine()).write(folder.heartbeat_path)
    began = time.monotonic()
    held = claim(folder)
    assert held is not None
    assert time.monotonic() - began < heartbeat.STILL_S / 2
    held.release()


def test_another_machines_cell_is_not_taken_while_its_heartbeat_moves(folder: CellFolder) -> None:
    another_machines(folder)
    assert is_held(folder)
    assert not is_locked(folder)
    stop = threading.Event()

    def beat() -> None:
        counter = 8
        while not stop.wait(0.05):
            another_machines(folder, counter)
            counter += 1

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert claim(folder, still_s=1.0) is None
    finally:
        stop.set()
        beating.join()
    assert not is_locked(folder)


def test_another_machines_cell_is_taken_once_it_has_stood_still(
    folder: CellFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "_CONFIRM_S", 0.1)
    another_machines(folder)
    held = claim(folder, still_s=0.3)
    assert held is not None
    assert held.is_ours()
    held.release()


def test_a_watched_heartbeat_need_not_be_watched_again(folder: CellFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "_CONFIRM_S", 0.1)
    beat = another_machines(folder)
    began = time.monotonic()
    held = claim(folder, stood_still=beat)
    assert held is not None
    assert time.monotonic() - began < heartbeat.STILL_S / 2
    held.release()


def test_of_two_machines_that_take_a_dead_ones_cell_one_gives_way(
    folder: CellFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "_CONFIRM_S", 0.3)
    beat = another_machines(folder)
    threading.Timer(0.1, another_machines, [folder, 1]).start()
    assert claim(folder, stood_still=beat) is None


def test_a_process_that_stood_still_notices_that_its_cell_was_taken(
    folder: CellFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "BEAT_S", 0.05)
    lost = threading.Event()
    held = claim(folder, on_lost=lost.set)
    assert held is not None
    another_machines(folder)
    assert lost.wait(5)
    held.release()
    beat = heartbeat.read(folder.heartbeat_path)
    assert beat is not None
    assert beat.claimant == "somebody"


class Failing:
    """Stands in for a function, and raises EIO while `broken`."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.real, self.broken, self.failures = real, False, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.broken:
            self.failures += 1
            raise OSError(errno.EIO, "Input/output error")
        return self.real(*arguments, **options)


@pytest.fixture(params=["read", "write"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """What reads or what writes heartbeats, made to fail on demand."""
    monkeypatch.setattr(claim_module, "BEAT_S", 0.05)
    module, name = (heartbeat, "read_json") if request.param == "read" else (atomic, "write_json")
    failing = Failing(getattr(module, name))
    monkeypatch.setattr(module, name, failing)
    return failing


def counter_on(folder: CellFolder) -> int:
    """The beats so far, read past what fails."""
    return int(json.loads(folder.heartbeat_path.read_text())["counter"])


def test_a_disk_that_does_not_answer_for_a_while_does_not_end_the_heartbeat(folder: CellFolder, disk: Failing) -> None:
    lost = threading.Event()
    held = claim(folder, on_lost=lost.set)
    assert held is not None
    disk.broken = True
    deadline = time.monotonic() + 5
    while disk.failures < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert disk.failures >= 3, "it tries again and again"
    before = counter_on(folder)
    disk.broken = False
    while counter_on(folder) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counter_on(folder) > before, "and goes on when it answers again"
    assert not lost.is_set()
    held.release()


def test_a_process_without_a_heartbeat_for_too_long_gives_way(
    folder: CellFolder, disk: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_module, "STILL_S", 0.5)
    lost = threading.Event()
    held = claim(folder, on_lost=lost.set)
    assert held is not None
    began = time.monotonic()
    disk.broken = True
    assert lost.wait(5)
    assert time.monotonic() - began > 0.4
    disk.broken = False
    held.release()
    assert not is_locked(folder)


def test_a_claim_is_let_go_of_even_where_its_heartbeat_cannot_be_read(
    folder: CellFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim(folder)
    assert held is not None
    failing = Failing(read_json)
    failing.broken = True
    monkeypatch.setattr(heartbeat, "read_json", failing)
    with pytest.raises(OSError, match="Input/output"):
        held.release()
    assert not is_locked(folder)


def test_a_heartbeat_that_cannot_be_read_is_watched(folder: CellFolder) -> None:
    folder.heartbeat_path.write_text("")
    beat = heartbeat.read(folder.heartbeat_path)
    assert beat is not None
    assert beat.foreign


def test_a_file_system_without_hard_links_will_do(folder: CellFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    held = claim(folder)
    assert held is not None
    assert held.is_ours()
    held.release()


def test_leftovers_of_killed_writers_are_cleared_away(folder: CellFolder) -> None:
    folder.checkpoints.mkdir()
    for leftover in (folder.path / ".result.json.01.unfinished", folder.checkpoints / ".last.ckpt.23.unfinished"):
        leftover.write_text("{")
    held = claim(folder)
    assert held is not None
    assert not list(folder.path.rglob(".*"))
    held.release()


def test_a_watch_believes_only_what_it_has_seen_stand_still(folder: CellFolder) -> None:
    watch = Watch(still_s=0.2)
    assert watch.dead(folder.heartbeat_path) == (True, None)
    beat = another_machines(folder)
    assert watch.dead(folder.heartbeat_path) == (False, beat)
    time.sleep(0.25)
    assert watch.dead(folder.heartbeat_path) == (True, beat)
    later = another_machines(folder, 8)
    assert watch.dead(folder.heartbeat_path) == (False, later)
