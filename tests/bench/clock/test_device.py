"""The stopwatch on a device that works on its own: what it is given is done only when somebody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from bench.clock.contestant import _warm_up
from bench.clock.device import Stopwatch

CUDA = torch.device("cuda")


class Gpu:
    """Does what it was given, in order, when it is waited for; one millisecond of its work takes one of ours."""

    def __init__(self) -> None:
        self.clock_ms = 0.0
        self.waits = 0
        self.given: list[Callable[[], None]] = []

    def work(self, ms: float) -> None:
        def done() -> None:
            self.clock_ms += ms
            time.sleep(ms / 1000)

        self.given.append(done)

    def synchronize(self, device: object = None) -> None:
        self.waits += 1
        while self.given:
            self.given.pop(0)()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    device = Gpu()

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing
            self.at_ms: float | None = None

        def happen(self) -> None:
            self.at_ms = device.clock_ms

        def record(self) -> None:
            device.given.append(self.happen)

        def elapsed_time(self, other: Event) -> float:
            if self.at_ms is None or other.at_ms is None:
                raise RuntimeError("the device has not come to this event yet")
            return other.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", device.synchronize)
    return device


def test_pieces_on_a_gpu_are_timed_by_its_own_clock_and_waited_for_once(gpu: Gpu) -> None:
    gpu.work(1000)  # of somebody before
    watch = Stopwatch(CUDA)
    for ms in (30.0, 50.0, 20.0):
        gpu.work(10)  # the input, which is no part of the step
        watch.time(lambda ms=ms: gpu.work(ms))  # type: ignore[misc]
    assert gpu.waits == 1, "steps follow each other without a pause"
    samples, wall_ms = watch.stop()
    assert samples == [30, 50, 20]
    assert gpu.waits == 2
    assert 130 <= wall_ms < 1000, "the wall time is of all that was done since the beginning"


def test_warm_up_waits_for_each_step(gpu: Gpu) -> None:
    class Workload:
        def fetch(self) -> None:
            gpu.work(300)

        def step(self) -> None:
            gpu.work(5)

    first_ms, step_ms, steady = _warm_up(Workload(), CUDA, 3)
    assert 5 <= first_ms < 300, "the input is no part of it"
    assert 5 <= step_ms < 300
    assert not steady, "three steps cannot show it"


def test_on_a_cpu_a_piece_takes_as_long_as_it_takes() -> None:
    watch = Stopwatch(torch.device("cpu"))
    time.sleep(0.3)
    watch.time(lambda: time.sleep(0.02))
    samples, wall_ms = watch.stop()
    assert 20 <= samples[0] < 300
    assert wall_ms >= 320
