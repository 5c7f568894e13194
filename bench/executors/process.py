"""A cell's process: claims the cell, runs it, writes its result.

It ends with the runner that started it (an orphan must not train on), at its time limit, and at SIGTERM; Ctrl-C is the
runner's business. At any moment it may be killed: then there is no result, and the cell goes on from its checkpoint.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench.devices import device_name
from bench.executors import fork_server, memory_limit
from bench.executors.device_lock import DeviceLock
from bench.executors.jobs import CELL_FUNCTION, Job
from bench.plugins import restore_plugins
from bench.spec import CellSpec
from bench.store import attempt, provenance
from bench.store.attempt import Attempt
from bench.store.cell_folder import CellFolder
from bench.store.claim import GIVEN_UP, Claim, GivenUp, claim
from bench.store.fingerprint import cell_fingerprint
from bench.store.result import Result
from bench.store.statuses import Status
from bench.task_data import check_data

CLAIMED, HELD, UNCLEAN, WAITING = "claimed", "held", "unclean", "waiting"
"""What a process tells its runner: one tuple, this word first. WAITING comes before CLAIMED where the clock has the
device for itself; the time limit begins with CLAIMED."""


def enter(job: Job, runner: Connection) -> None:
    """The process's first function.

    Args:
        job: the cell.
        runner: where to tell the runner what happened. Its other end shows that this process lives, so it is closed in
            whatever this process forks.
    """
    stand_alone()
    os.register_at_fork(after_in_child=runner.close)
    if job.forked:
        unclean = fork_server.why_unclean()
        if unclean:
            runner.send((UNCLEAN, unclean))
            return
    # The fork server has the environment of the moment it was started.
    os.environ.clear()
    os.environ.update(job.environment)
    folder = CellFolder(job.folder)
    held = claim(folder, stood_still=job.stood_still)
    if held is None:
        runner.send((HELD,))
        return
    remarks = attempt.begin(folder, job.replaces, job.afresh)
    if remarks is None:
        held.release()
        return
    _log_to(folder.log_path)
    _use_device(job)
    device = device_lock(job.spec)
    device.share(waiting=lambda: runner.send((WAITING,)))  # until the process ends
    runner.send((CLAIMED,))
    for remark in remarks:
        print(remark)
    try:
        _run(job, folder, held, on_cpu=device.device == "cpu")
    except GivenUp as error:
        print(error, file=sys.stderr)
        _leave(GIVEN_UP)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        _leave(error.code if isinstance(error.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _run(job: Job, folder: CellFolder, held: Claim, on_cpu: bool) -> None:
    """Runs a cell whose folder is ready, and writes its result."""
    began = time.monotonic()
    finish = Finish(folder, held)
    try:
        spec = CellSpec.from_json(job.spec, folder.spec_path)
        use_threads(spec.threads)
        if job.memory_limit is not None and on_cpu:
            memory_limit.apply(job.memory_limit)
        noted = _note(folder, spec, job.cell_function)
        if job.time_limit_s is not None:
            TimeLimit(job.time_limit_s, held, noted, finish, began).start()
        result = compute(spec, folder, held, noted, job.cell_function)
    except Exception as error:
        # What goes wrong before the cell's own code is reached is the cell's result as well.
        noted = attempt.read(folder) or attempt.note(folder, None, provenance.collect("cpu"))
        result = noted.complete(failure(job.cell, error), time.monotonic() - began)
    finish(result)


def device_lock(spec: Mapping[str, Any]) -> DeviceLock:
    """The lock on the device that a cell with this spec runs on in this process, which has chosen its GPU."""
    return DeviceLock(device_name(str(spec.get("trainer", {}).get("accelerator", "auto"))))


def run_here(
    folder: CellFolder,
    spec: CellSpec,
    cell_function: str = CELL_FUNCTION,
    waiting: Callable[[], None] = lambda: None,
) -> Result | None:
    """Runs a cell in this process, output and all, and writes its result: what `python -m bench cell` does.

    A result that is there is replaced, and kept in attempts/. While the clock has the device, it waits.

    Args:
        folder: the cell's.
        spec: the cell's.
        cell_function: what runs it.
        waiting: called once if it has to wait.

    Returns:
        the result; None where another process has the cell.

    Raises:
        SettingsError: a plugin or a text of the user's is missing or has changed; nothing has been touched.
    """
    spec = spec.located(folder.study)
    restore_plugins(spec.plugins, str(folder.spec_path))
    check_data(spec, str(folder.spec_path))
    held = claim(folder)
    if held is None:
        return None
    try:
        with device_lock(spec.to_json()).shared(waiting):
            for remark in attempt.begin(folder, folder.result_digest()) or []:
                print(remark, flush=True)
            noted = _note(folder, spec, cell_function)
            result = compute(spec, folder, held, noted, cell_function)
            folder.write_result(result)
            return result
    finally:
        held.release()


def compute(spec: CellSpec, folder: CellFolder, held: Claim, noted: Attempt, cell_function: str) -> Result:
    """Calls the function that runs the cell, and completes its result. Whatever it raises becomes the result.

    KeyboardInterrupt and SystemExit pass: they are no results.
    """
    began = time.monotonic()
    try:
        run_cell = _function(cell_function)
        result = run_cell(spec, folder, held, noted.fresh)
        if not isinstance(result, Result):
            raise TypeError(f"{cell_function} returned {type(result).__name__}, not a Result")
    except Exception as error:
        result = failure(spec.id, error)
    return noted.complete(result, time.monotonic() - began)


def failure(cell: str, error: Exception) -> Result:
    """The result of a cell whose code raised an exception."""
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    return Result(cell, Status.ERROR, f"{type(error).__name__}: {error}", text)


class Finish:
    """Writes a process's one result: whoever comes first, the cell or its time limit."""

    def __init__(self, folder: CellFolder, held: Claim) -> None:
        self._folder, self._held = folder, held
        self._first = threading.Lock()

    def __call__(self, result: Result) -> None:
        """Writes the result and lets go of the cell. Never returns to who comes second: the first ends the process."""
        self._first.acquire()
        self._folder.write_result(result)
        self._held.release()


class TimeLimit(threading.Thread):
    """Ends the process when its time is over, and writes that as its result while the cell is still claimed.

    (Were the process killed first, another runner could take the cell before that is written.) The runner kills a
    process that is too stuck even for this.
    """

    def __init__(self, seconds: float, held: Claim, noted: Attempt, finish: Finish, began: float) -> None:
        super().__init__(name="time limit", daemon=True)
        self._seconds, self._held, self._noted, self._finish, self._began = seconds, held, noted, finish, began

    def run(self) -> None:
        """Waits, then ends the process."""
        time.sleep(max(0.0, self._began + self._seconds - time.monotonic()))
        try:
            result = timed_out(self._held.folder.cell, self._seconds, self._held.where())
            self._finish(self._noted.complete(result, time.monotonic() - self._began))
        except BaseException:
            traceback.print_exc()
            _leave(1)
        _leave(0)


def timed_out(cell: str, seconds: float, where: str = "") -> Result:
    """The result of a cell that did not end within its time limit."""
    return Result(cell, Status.TIMEOUT, f"not finished within {seconds:g} s" + (f", at {where}" if where else ""))


def _note(folder: CellFolder, spec: CellSpec, cell_function: str) -> Attempt:
    """Notes when, with which code and where this process takes the cell up."""
    try:
        module = cell_function.partition(":")[0]
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise ImportError(f"there is no module {module}")
        code = cell_fingerprint(spec.to_json(), Path(found.origin))
    except (OSError, SyntaxError, ImportError) as error:
        # The same will meet the cell itself, which reports it as its result.
        print(f"the code of the cell cannot be read: {error}", file=sys.stderr, flush=True)
        code = None
    return attempt.note(folder, code, provenance.collect(str(spec.trainer.get("accelerator", "auto")), spec.threads))


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def stand_alone() -> None:
    """Parts from the terminal, and ties the process's life to its runner's."""
    # A session of its own: signals to the runner's group do not reach it, and what it starts can be ended with it.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # In Python's hands even while Lightning has its own handler, which calls the one it finds.
    signal.signal(signal.SIGTERM, _end_at_once)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    threading.Thread(target=_end_with_runner, name="end with the runner", daemon=True).start()


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_with_runner() -> None:
    runner = parent_process()
    if runner is not None:
        connection.wait([runner.sentinel])
    # SIGKILL for all that the cell has started; this process is among them.
    os.killpg(0, signal.SIGKILL)


def _leave(code: int) -> NoReturn:
    """Ends the process at once: no atexit, no destructors, no threads to wait for. What counts is on disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):
            # A full disk, or a flush that a signal handler has interrupted: the log's last words are lost, no more.
            continue
    os._exit(code)


def _log_to(path: Path) -> None:
    """Sends all output, of libraries and of what the cell starts too, to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(descriptor, number)
    os.close(descriptor)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)


def use_threads(threads: int) -> None:
    """Has this process, and what it starts, compute with `threads` CPU threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _use_device(job: Job) -> None:
    """Gives a cell that wants one GPU the one of its slot, where there are several."""
    trainer = job.spec.get("trainer", {})
    if trainer.get("accelerator") == "cpu" or trainer.get("devices") != 1:
        return
    import torch

    # Not is_available: it starts CUDA, and then this process cannot choose its GPU.
    chosen = device_of(job.slot, os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())
    if chosen is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def device_of(slot: int, visible: str | None, count: int) -> str | None:
    """The GPU for a slot, as CUDA_VISIBLE_DEVICES names it; None where there is no choice.

    Args:
        slot: 0 or more.
        visible: CUDA_VISIBLE_DEVICES as it is.
        count: how many GPUs PyTorch sees.
    """
    if count < 2:
        return None
    names = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return names[slot % count]
