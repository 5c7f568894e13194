"""The fork server: a process that has imported PyTorch and Lightning once, and forks a new process for each cell.

A fork copies what its parent has, so the server must stay clean: no CUDA (a forked process cannot use it again) and no
threads (their locks would be copied as they are). `why_unclean` checks this in every child.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

PRELOADED = ("torch", "pytorch_lightning")

# OpenMP and the BLAS libraries make their threads when they are loaded or first used, and keep this number; a cell's
# process sets its own through PyTorch after the fork.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(preload: Sequence[str] = PRELOADED) -> BaseContext:
    """The context in which to start cells' processes; its server is started now, if this process has none.

    It returns at once: the first process waits until the server has imported `preload`. The server ends by itself when
    this process and all that it forked have ended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with _environment(_ONE_THREAD):
        resource_tracker.ensure_running()  # by itself first, for it unblocks the signal when it is through
        with blocked(signal.SIGINT):
            # Forked processes inherit the block: Ctrl-C in a terminal goes to all of them, and is the runner's.
            forkserver.ensure_running()
    return context


def why_unclean() -> str | None:
    """What this process has inherited from the fork server that it must not; None if nothing."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and (torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork()):
        return "CUDA was started in the fork server"
    tasks = Path(f"/proc/{os.getppid()}/task")
    threads = len(list(tasks.iterdir())) if tasks.is_dir() else 1
    if threads > 1:
        return f"the fork server has {threads} threads"
    return None


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Keeps a signal from this process for a moment, and from those that it starts until they say otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
