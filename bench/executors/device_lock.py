"""One lock per device of this machine: whatever computes there shares it, and the clock has it alone.

A second busy process doubles times, so nothing is timed beside a cell, whichever study the cell belongs to.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class DeviceLock:
    """An flock on a file in the system's temporary folder; the kernel lets go of it with the process.

    Args:
        device: its name, as `bench.devices.device_name` gives it.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.path = Path(tempfile.gettempdir()) / f"spanbench-{os.getuid()}-{device}.lock"
        self._descriptor: int | None = None

    def share(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Takes the lock beside others who share it. While the clock has it, waits, after calling `waiting` once."""
        self._take(fcntl.LOCK_SH, waiting)

    def have_alone(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Takes the lock alone. While others share it, waits, after calling `waiting` once."""
        self._take(fcntl.LOCK_EX, waiting)

    @contextmanager
    def shared(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """While it lasts, the lock is held as `share` takes it."""
        self.share(waiting)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Lets go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, how: int, waiting: Callable[[], None]) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(self._descriptor, how)
