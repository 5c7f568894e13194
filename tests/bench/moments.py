"""What a cell's process is doing at this moment, told to a test that kills it, and a place where it waits to be killed.

In one folder beside the study, ``<cell>.now`` holds one line: process, moment, and whether it waits there. The line is
replaced with one system call, so what stands in it once the process is dead is where it died. A test that wants a
process to die at one moment makes the file ``stop at <moment>``; the first process to get there takes it, and waits.

A moment is a phase, and in the phases that write a file, which file and how far: ``result writing, result.json in
place``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TRAINING, VALIDATION, TEST = "training", "validation", "test"
CHECKPOINT, RESULT = "checkpoint writing", "result writing"
PHASES = (TRAINING, VALIDATION, TEST, CHECKPOINT, RESULT)
"""The phases that are work. Before them a cell is being set up, after them it has ended."""
SET_UP, ENDED = "set-up", "ended"

HALF, WHOLE, IN_PLACE = "half-written", "written, not in place", "in place"
"""How far an atomic write has come: the temporary file has half of its content, or all of it, or the file's name."""

_LINE = 120
"""Bytes of a line, whatever it says."""


@dataclass(frozen=True)
class Moment:
    """Where a cell's process is, or died."""

    process: int
    name: str
    waits: bool
    """Whether it waits there to be killed."""

    @property
    def phase(self) -> str:
        """The moment's phase: one of `PHASES`, `SET_UP` or `ENDED`."""
        return self.name.partition(",")[0]


class Teller:
    """Says where this process is.

    Args:
        folder: where to say it.
        cell: the cell's id.
    """

    def __init__(self, folder: Path, cell: str) -> None:
        self._folder = folder
        self._file = os.open(folder / f"{cell}.now", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def say(self, moment: str, waits: bool = False) -> None:
        """Says that the process has come to a moment."""
        line = f"{os.getpid()}|{moment}|{'waits' if waits else ''}|"
        os.pwrite(self._file, line.ljust(_LINE).encode(), 0)

    def stop_here(self, moment: str, first: Callable[[], object] = lambda: None) -> None:
        """Says it too, and waits to be killed if a test wants that; `first` is called only in this case."""
        self.say(moment)
        try:
            os.rename(self._folder / f"stop at {moment}", self._folder / "stopped")
        except FileNotFoundError:
            return
        first()
        self.say(moment, waits=True)
        while True:
            time.sleep(60)


def read(folder: Path) -> dict[str, Moment]:
    """What each cell's last process said last, by cell."""
    found = {}
    for path in folder.glob("*.now"):
        process, name, waits, *_ = [*path.read_text().split("|"), "", "", ""]
        if process:  # not made just now, and still empty
            found[path.stem] = Moment(int(process), name, waits == "waits")
    return found


def ask_to_stop(folder: Path, moment: str) -> None:
    """Has the next process that comes to a moment wait there."""
    (folder / f"stop at {moment}").touch()


def withdraw(folder: Path, moment: str) -> None:
    """Takes that back, if no process has come there."""
    (folder / f"stop at {moment}").unlink(missing_ok=True)
