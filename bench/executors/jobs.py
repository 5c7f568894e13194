"""What an executor is asked to do, and what it answers. Every executor, local or distributed, speaks these words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from bench.store.heartbeat import Heartbeat

CELL_FUNCTION = "bench.cell:run_cell"
"""What runs a cell: ``module:function``, called with (spec, folder, claim, fresh), returns a Result."""


@dataclass(frozen=True)
class Job:
    """One cell to run. Everything in it can be pickled."""

    cell: str
    folder: Path
    spec: dict[str, Any]
    """The cell's spec as JSON data."""
    replaces: str | None = None
    """The digest of the result to run it in spite of."""
    afresh: bool = False
    """Whether nothing of that result's attempt may be gone on from."""
    stood_still: Heartbeat | None = None
    """Another machine's heartbeat in the folder that was watched for long enough."""
    memory_limit: int | None = None
    """Bytes that a cell on the CPU may allocate; None for no limit."""
    cell_function: str = CELL_FUNCTION
    slot: int = 0
    """Which of the executor's places it takes; decides its GPU where there are several. Set by the executor."""
    environment: dict[str, str] = field(default_factory=dict)
    """The environment variables to run with. Set by the executor."""
    forked: bool = False
    """Whether it comes from a fork server, and has to be checked for what it inherited. Set by the executor."""

    @property
    def time_limit_s(self) -> float | None:
        """Seconds after which the cell is ended; None for no limit."""
        limit = self.spec.get("time_limit_s")
        return None if limit is None else float(limit)


class How(StrEnum):
    """How a cell's process ended. Whether there is a result is for the folder to say."""

    LEFT = "left"
    """By itself, or killed by somebody else."""
    HELD = "held"
    """It found the cell claimed by another process, and did nothing."""
    OVERRUN = "overrun"
    """Killed, because it did not end by itself at its time limit."""
    OUT_OF_MEMORY = "out of memory"
    """Killed by the kernel for want of memory."""
    PRUNED = "pruned"
    """Ended by `Executor.prune`, because it was not worth going on."""
    NOT_RUN = "not run"
    """It could not be started as it was; start it again."""


@dataclass(frozen=True)
class Ended:
    """The end of one job's process."""

    job: Job
    how: How
    exit_code: int | None
    """As `multiprocessing.Process.exitcode`: negative for a signal; None where it cannot be known."""
    seconds: float
    """Wall time of the process, in seconds."""
    reason: str = ""
    """Why it was pruned."""


class Executor(Protocol):
    """Runs jobs, several at a time."""

    def free(self) -> int:
        """How many more jobs can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Starts a job. Call it only where `free` says so."""
        ...

    def running(self) -> list[Job]:
        """The jobs that have started and not ended."""
        ...

    def wait(self, timeout: float, wake: int | None) -> list[Ended]:
        """Waits until a job ends, `timeout` seconds have passed, or the descriptor `wake` can be read."""
        ...

    def prune(self, cell: str, reason: str) -> None:
        """Ends one job, if it runs: gently, then by force after five seconds. Its end tells the reason."""
        ...

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Ends all jobs: gently, then by force after five seconds, or as soon as `hurry` says so."""
        ...
