"""Runs cells on this machine: up to `jobs` processes at a time, each forked from a server that has PyTorch loaded.

A process's end is seen on two lines: its exit status, through the fork server, and a pipe that it holds open for as
long as it lives, so that the end of the fork server is never taken for the end of a cell.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from bench.executors import fork_server, process
from bench.executors.jobs import Ended, How, Job
from bench.executors.kernel_kills import KernelKills
from bench.store.cell_folder import CellFolder
from bench.store.claim import is_locked
from bench.store.heartbeat import STILL_S

_GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL."""
_OVERRUN_S = 10.0
"""Seconds that a process has to end by itself after its time limit (`process.TimeLimit`) before the runner does it."""
_BEGIN_S = 120.0 + 2 * STILL_S
"""Seconds that a process has to claim its cell: imports, and watching what another machine left."""
_LAST_MOMENTS_S = 2.0
"""Seconds to wait for the exit code of a process that has closed its pipe."""
_LOST_SERVER = 255
"""The exit code that multiprocessing gives when it cannot know it; also one that a process may have."""


class LocalExecutor:
    """Runs cells on this machine.

    Args:
        jobs: how many at a time.
        say: what to do with a line that the user should see.
        preload: what the fork server imports before it forks.
    """

    def __init__(self, jobs: int, say: Callable[[str], None], preload: Sequence[str] = fork_server.PRELOADED) -> None:
        self._jobs, self._say = jobs, say
        self._preload = preload
        self._spawning = False
        self._servers_lost = 0
        self._children: list[_Child] = []
        self._unstarted: list[Ended] = []
        self._kernel_kills = KernelKills()

    def free(self) -> int:
        """How many more jobs can be started now."""
        return self._jobs - len(self._children)

    def running(self) -> list[Job]:
        """The jobs that have started and not ended."""
        return [child.job for child in self._children]

    def start(self, job: Job) -> None:
        """Starts a job. The first takes as long as PyTorch's import, the others some hundredths of a second."""
        if not self._children:
            self._kernel_kills.forget()
        taken = {child.job.slot for child in self._children}
        slot = next(number for number in range(self._jobs) if number not in taken)
        job = replace(job, slot=slot, environment=dict(os.environ), forked=not self._spawning)
        context = multiprocessing.get_context("spawn") if self._spawning else fork_server.start(self._preload)
        child = _Child(context, job)
        # Known before it starts: whatever interrupts the start, `stop` finds the process.
        self._children.append(child)
        try:
            child.start()
        except BaseException as error:
            if child.started:
                raise
            self._children.remove(child)
            child.close()
            if self._spawning or not isinstance(error, EOFError | ConnectionError):
                raise
            # The server was killed in this moment, or it cannot import what it should: then the next one ends as well.
            self._servers_lost += 1
            if self._servers_lost > 1:
                self._spawn_from_now_on(f"the fork server ended twice ({type(error).__name__})")
            self._unstarted.append(Ended(job, How.NOT_RUN, None, 0.0))

    def wait(self, timeout: float, wake: int | None) -> list[Ended]:
        """The jobs that have ended, as soon as there are any; see `jobs.Executor`."""
        ended, self._unstarted = self._unstarted, []
        if ended:
            return ended
        lines: list[Any] = [line for child in self._children for line in child.lines()]
        # A process that has closed its pipe is on its way out; its exit code comes a moment later.
        leaving = any(child.gone and child.exit_code is None for child in self._children)
        connection.wait([*lines, *([] if wake is None else [wake])], 0.02 if leaving else timeout)
        for child in list(self._children):
            child.listen()
            if child.unclean and not self._spawning:
                self._spawn_from_now_on(child.unclean)
            if child.has_ended():
                end = child.bury()
                if end.how is How.LEFT and end.exit_code == -signal.SIGKILL and self._kernel_kills.take():
                    end = replace(end, how=How.OUT_OF_MEMORY)
                ended.append(end)
                self._children.remove(child)
            elif time.monotonic() > child.deadline:
                child.overrun = True
                child.end(gently=child.killed_at is None)
        return ended

    def prune(self, cell: str, reason: str) -> None:
        """Ends one job, if it runs, and notes why; see `jobs.Executor`."""
        for child in self._children:
            if child.job.cell == cell and not child.pruned:
                child.pruned = reason
                child.end(gently=True)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Ends all jobs: SIGTERM, then SIGKILL after five seconds, or as soon as `hurry` says so."""
        for child in self._children:
            child.end(gently=True)
        deadline = time.monotonic() + _GRACE_S
        # One that even SIGKILL does not end hangs in the kernel; it holds its claim, so it can be left there.
        while self._children and time.monotonic() < deadline + 2 * _GRACE_S:
            if hurry() or time.monotonic() > deadline:
                for child in self._children:
                    child.end(gently=False)
            self.wait(0.1, None)

    def _spawn_from_now_on(self, why: str) -> None:
        self._spawning = True
        self._say(f"cells start without the fork server from now on, about 10 s each: {why}")


class _Child:
    """One cell's process, seen from the runner."""

    def __init__(self, context: BaseContext, job: Job) -> None:
        self.job = job
        self.began = time.monotonic()
        self.deadline = self.began + _BEGIN_S + (job.time_limit_s or 0.0)
        self.gone = False
        """Its pipe is closed: it has ended, or is about to."""
        self.exit_code: int | None = None
        self.held = False
        self.unclean = ""
        self.pruned = ""
        """Why it is being pruned; empty if it is not."""
        self.overrun = False
        self.killed_at: float | None = None
        self._lost_server = False
        self._gone_since = 0.0
        self._pipe, self._theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every real context has it
            target=process.enter, args=(job, self._theirs), name=f"cell {job.cell}"
        )

    @property
    def started(self) -> bool:
        """Whether there is a process."""
        return self._process.pid is not None

    def start(self) -> None:
        """Starts the process."""
        try:
            # Until the process has parted from the terminal, Ctrl-C is not for it; see `process.enter`.
            with fork_server.blocked(signal.SIGINT) if not self.job.forked else contextlib.nullcontext():
                self._process.start()
        finally:
            self._theirs.close()
        # Importing PyTorch for the first time is not the cell's time.
        self.began = time.monotonic()
        self.deadline = self.began + _BEGIN_S + (self.job.time_limit_s or 0.0)

    def close(self) -> None:
        """Closes this end of the pipe."""
        self._pipe.close()

    def lines(self) -> list[Any]:
        """What to wait on for news of the process."""
        lines: list[Any] = [] if self.gone else [self._pipe]
        if self.exit_code is None and not self._lost_server:
            lines.append(self._process.sentinel)
        return lines

    def listen(self) -> None:
        """Takes in what the process says, and whether it still lives."""
        while not self.gone and self._pipe.poll():
            try:
                word, *rest = self._pipe.recv()
            except (EOFError, OSError):
                self.gone, self._gone_since = True, time.monotonic()
                break
            if word == process.CLAIMED:
                limit = self.job.time_limit_s
                self.deadline = float("inf") if limit is None else time.monotonic() + limit + _OVERRUN_S
            elif word == process.WAITING:
                self.deadline = float("inf")
            elif word == process.HELD:
                self.held = True
            elif word == process.UNCLEAN:
                self.unclean = str(rest[0])
        if self.exit_code is None and not self._lost_server:
            code = self._process.exitcode
            if code == _LOST_SERVER and not self.gone:
                self._lost_server = True
            else:
                self.exit_code = code

    def has_ended(self) -> bool:
        """Whether the process has ended, and all that can be known of its end is known."""
        if self.exit_code is not None:
            return True
        if not self.gone:
            return False
        if self._lost_server and not is_locked(CellFolder(self.job.folder)):
            # The kernel closes a process's files one after the other; the claim is gone too now.
            return True
        return time.monotonic() - self._gone_since > _LAST_MOMENTS_S

    def end(self, gently: bool) -> None:
        """Has the process end: asks it, or kills it with all that it has started."""
        self.listen()
        if self.gone or self.exit_code is not None:
            return
        pid = self._process.pid
        assert pid is not None
        with contextlib.suppress(ProcessLookupError):
            if gently:
                os.kill(pid, signal.SIGTERM)
                self.killed_at = time.monotonic()
                self.deadline = self.killed_at + _GRACE_S
            else:
                os.kill(pid, signal.SIGKILL)
                os.killpg(pid, signal.SIGKILL)

    def bury(self) -> Ended:
        """Clears away what is left of a process that has ended."""
        self.listen()
        pid = self._process.pid
        assert pid is not None
        with contextlib.suppress(ProcessLookupError):
            # What the cell started and did not end, such as a data loader's workers.
            os.killpg(pid, signal.SIGKILL)
        self.close()
        if self._process.exitcode is not None:
            self._process.join()
            self._process.close()
        known = None if self._lost_server or self.exit_code == _LOST_SERVER else self.exit_code
        return Ended(self.job, self._how(), known, time.monotonic() - self.began, self.pruned)

    def _how(self) -> How:
        if self.unclean:
            return How.NOT_RUN
        if self.held:
            return How.HELD
        if self.pruned:
            return How.PRUNED
        return How.OVERRUN if self.overrun else How.LEFT
