"""The device that the clock measures on: its name, and how a stretch of work on it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from models.errors import Unsupported


def choose(accelerator: str) -> torch.device:
    """The device that a cell with this ``trainer.accelerator`` runs on.

    Raises Unsupported for devices that the clock has no timer for.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        raise Unsupported("the clock measures on CPUs and CUDA devices; set trainer.accelerator=cpu")
    return torch.device("cpu")


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Times pieces of work, in milliseconds, each by itself and all of them together.

    On CUDA by events around each piece, read after one synchronisation at the end; on a CPU by `time.perf_counter`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._events: list[tuple[Any, Any]] = []
        self._samples: list[float] = []
        synchronise(device)
        self._began = time.perf_counter()

    def time(self, work: Callable[[], None]) -> None:
        """Does a piece of work, and times it."""
        if self.device.type == "cuda":
            begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            begin.record()
            work()
            end.record()
            self._events.append((begin, end))
        else:
            begin_s = time.perf_counter()
            work()
            self._samples.append(1000 * (time.perf_counter() - begin_s))

    def stop(self) -> tuple[list[float], float]:
        """The pieces' times, and the wall time since this was made, all in milliseconds."""
        synchronise(self.device)
        wall = 1000 * (time.perf_counter() - self._began)
        if self.device.type == "cuda":
            self._samples = [begin.elapsed_time(end) for begin, end in self._events]
        return self._samples, wall
