"""What the store's tests share: a process killed at each line of the store, one after the other."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

MEMORY = Path("/dev/shm")
_TIMES = 2
"""How often one line is a place to be killed at: what loops over records does not touch a file in between."""
STORE = str(Path(__file__).resolve().parents[3] / "bench" / "store")
Prepared = TypeVar("Prepared")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A temporary folder, in memory where the system has such a file system.

    What survives a killed process does so on any file system; these tests would wait for fsync most of the time.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(name="killed_at_every_line")
def fixture() -> Any:
    """The function `killed_at_every_line`."""
    return killed_at_every_line


def killed_at_every_line(
    prepare: Callable[[int], Prepared], action: Callable[[Prepared], object]
) -> Iterator[tuple[Prepared, bool]]:
    """Runs `action` in a forked process that is killed at its first line in bench/store, then at its second, and so on.

    Args:
        prepare: makes what the action works on; called with the line's number.
        action: what is killed.

    Yields:
        what was prepared, after the kill; and whether the action came to its end this time, which is the last.
    """
    number, finished = 0, False
    while not finished:
        number += 1
        prepared = prepare(number)
        finished = _run_to_line(number, lambda prepared=prepared: action(prepared))  # type: ignore[misc]
        yield prepared, finished
    assert number > 5, "nothing of the store was run"


def _run_to_line(number: int, action: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        left = number
        seen: Counter[tuple[str, int]] = Counter()

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(STORE):
                return None
            place = (frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and seen[place] < _TIMES:
                seen[place] += 1
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        try:
            sys.settrace(trace)
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the action failed"
    return True
