"""How many processes a device has room for."""

from __future__ import annotations

import pytest

from bench.devices import at_a_time


@pytest.mark.parametrize(
    ("accelerator", "cuda", "threads", "room"),
    [("cpu", True, 1, 8), ("cpu", False, 3, 2), ("auto", False, 9, 1), ("auto", True, 1, 1), ("gpu", True, 1, 1)],
)
def test_processes_share_a_processor_but_not_a_gpu(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, cuda: bool, threads: int, room: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert at_a_time(accelerator, threads) == room
