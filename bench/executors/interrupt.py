"""Ctrl-C, SIGTERM and a closed terminal, as a flag that the runner looks at where it suits it.

An exception out of a signal handler could come anywhere, in the middle of writing down a result too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Whether the user, or the machine, wants this process to stop. Use it in a ``with`` statement.

    Outside the main thread, where Python has no signal handlers, it never says so.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many such signals have come: the second says that it is urgent."""
        self._raising = False
        self._before: dict[signal.Signals, Any] = {}
        self._read, self._write = -1, -1

    def __enter__(self) -> Interrupt:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # What was ignored before, as under nohup, stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    @property
    def came(self) -> bool:
        """Whether a signal has come."""
        return self.count > 0

    @property
    def urgent(self) -> bool:
        """Whether a second one has come."""
        return self.count > 1

    def fileno(self) -> int:
        """A descriptor that can be read once a signal has come: what to wait on beside other things."""
        return self._read

    def clear(self) -> None:
        """Makes the descriptor wait for the next signal."""
        try:
            while os.read(self._read, 64):
                pass
        except BlockingIOError:
            return

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Within it, a signal raises KeyboardInterrupt at once: for waiting in calls that return too late."""
        self._raising = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._raising = False

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        with contextlib.suppress(BlockingIOError):  # full of earlier ones: it can be read all the same
            os.write(self._write, b"!")
        if self._raising:
            raise KeyboardInterrupt
