"""A limit on the memory of a cell on the CPU, so that one that asks for too much ends itself and not its neighbours.

Its next allocation fails as if the machine had no more, and the cell's result is ``oom``. Linux only: elsewhere systems
accept such limits and do not keep them.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from bench.executors import memory_cgroup

SHARE = 0.8
"""Of the memory that is free, how much all cells that run at a time may take together."""


def default(jobs: int) -> int | None:
    """Bytes for each of `jobs` cells: their share of what is free now; None where the system does not say.

    What is free is what the machine has left or, where that is less, the cgroup (a container's or a batch job's limit).
    """
    known = [memory_cgroup.field(Path("/proc/meminfo"), "MemAvailable"), memory_cgroup.free()]
    free = min((number for number in known if number is not None), default=None)
    return None if free is None else int(SHARE * free / jobs)


def apply(limit: int) -> None:
    """Lets this process allocate `limit` bytes more than it has (writable private memory, RLIMIT_DATA)."""
    if sys.platform != "linux":
        return
    held = memory_cgroup.field(Path("/proc/self/status"), "VmData") or 0
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + limit
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
