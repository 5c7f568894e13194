"""What is written down about a cell whose process ended without a result."""

from __future__ import annotations

import signal

from bench.executors import memory_cgroup
from bench.executors.jobs import Ended, How
from bench.executors.process import timed_out
from bench.store import attempt, heartbeat, provenance
from bench.store.attempt import Attempt
from bench.store.cell_folder import CellFolder
from bench.store.claim import GIVEN_UP, LOST, Claim, claim
from bench.store.result import Result
from bench.store.statuses import Status

_TAIL = 4000
"""Bytes of the log's end that stand in the result."""


def hold(ended: Ended) -> Claim | None:
    """Claims the cell of a process that has ended without a result; None where that is not this runner's to judge."""
    folder = CellFolder(ended.job.folder)
    left = heartbeat.read(folder.heartbeat_path)
    if ended.exit_code == LOST or not folder.path.is_dir() or (left is not None and left.foreign):
        # Deleted under the process, which is a way to have the cell run again; or taken by another machine. It is run
        # again as soon as nobody has it.
        return None
    return claim(folder, on_lost=lambda: None)


def may_be_part_of_a_shutdown(ended: Ended) -> bool:
    """Whether it was killed by a signal that a scheduler or a shutdown sends to all processes of a job."""
    if ended.how in (How.PRUNED, How.OUT_OF_MEMORY):
        return False
    return ended.exit_code is None or -ended.exit_code in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT)


def record(ended: Ended, held: Claim) -> str:
    """Writes the result of a cell that was killed, or that left without one, and lets go of the claim.

    Returns:
        what to tell the user about a cell that has no result, because its process has given it up; empty for others.

    Raises OSError where it cannot be written, as when the disk is full.
    """
    folder = held.folder
    try:
        if ended.exit_code == GIVEN_UP:
            last = _log_end(folder).rstrip().rpartition("\n")[2]
            return f"{folder.cell} has no result ({last}); it goes on when the study is run again"
        # Where the process died before it had put the old result away, that is done now.
        if attempt.begin(folder, ended.job.replaces, ended.job.afresh) is not None:
            noted = attempt.read(folder) or attempt.note(folder, None, provenance.collect("cpu"))
            folder.write_result(_complete(noted, folder, ended))
        return ""
    finally:
        held.release()


def _complete(noted: Attempt, folder: CellFolder, ended: Ended) -> Result:
    limit = ended.job.time_limit_s
    if ended.how is How.PRUNED:
        result = Result(ended.job.cell, Status.PRUNED, ended.reason)
    elif ended.how is How.OVERRUN and limit is not None:
        result = timed_out(ended.job.cell, limit)
    elif ended.how is How.OUT_OF_MEMORY:
        why = "killed by the system for want of memory"
        result = Result(ended.job.cell, Status.OOM, why, _log_end(folder), died=True)
    else:
        overrun = ended.how is How.OVERRUN
        why = "its process did not begin, and was killed" if overrun else reason(ended.exit_code)
        result = Result(ended.job.cell, Status.ERROR, why, _log_end(folder), died=True)
    return noted.complete(result, ended.seconds)


def reason(exit_code: int | None) -> str:
    """Why there is no result, from a process's exit code."""
    if exit_code is None:
        return "its process ended without a result; how is not known"
    if exit_code >= 0:
        return f"its process left with exit code {exit_code} and no result"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    # Where the kernel counts its own kills, those are told apart before (`How.OUT_OF_MEMORY`).
    doubt = name == "SIGKILL" and memory_cgroup.kills() is None
    return f"killed by {name}" + (", maybe by the system for want of memory" if doubt else "")


def _log_end(folder: CellFolder) -> str:
    """The end of the cell's log: what a crash has said."""
    try:
        content = folder.log_path.read_bytes()
    except FileNotFoundError:
        return ""
    return content[-_TAIL:].decode("utf-8", "replace")
