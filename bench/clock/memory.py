"""The memory pass: what a step needs, in a process of its own and never while anything is timed.

CPU: the peak of PyTorch's own allocator, added up from the allocations that `torch.profiler` records, begun before the
model is built; the same to the byte in every run. What libraries take for themselves is not in it. CUDA: the peaks that
PyTorch's caching allocator keeps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from bench.clock.device import synchronise
from bench.clock.workload import Workload

_SETTLING, _MEASURED = 2, 3
"""Steps before the peak is watched (the optimiser makes its state in the first), and steps while it is."""
_MARK = "spanbench: measured steps"


def measure(make: Callable[[], Workload], device: torch.device) -> dict[str, float]:
    """Peak memory of some steps with a full memory, in bytes.

    Args:
        make: builds the workload; called once, after recording has begun.
        device: where it runs.

    Returns:
        ``static`` (weights, gradients and optimiser), ``peak`` (all that is allocated at the worst moment), ``extra``
        (peak over static), ``resident`` (peak resident size of this process, where the system tells); on CUDA also
        ``reserved`` and ``retries``.
    """
    figures = _cuda(make, device) if device.type == "cuda" else _cpu(make)
    figures["extra"] = figures["peak"] - figures["static"]
    return figures


def _cpu(make: Callable[[], Workload]) -> dict[str, float]:
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        workload = make()
        resident = _steps(workload, lambda: record_function(_MARK))
        static = float(workload.static_bytes())
    events: Any = recorded.profiler
    return {"static": static, "peak": float(_peak(events.kineto_results.events())), **resident}


def _peak(events: list[Any]) -> int:
    """The largest sum of allocations within the marked stretch, from the recorded events."""
    mark = next(event for event in events if event.name() == _MARK)
    held = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        if event.device_type().name != "CPU":
            continue
        before, held = held, held + event.nbytes()
        if mark.start_ns() <= event.start_ns() <= mark.end_ns():
            peak = max(peak, before, held)
    return peak


def _cuda(make: Callable[[], Workload], device: torch.device) -> dict[str, float]:
    workload = make()
    before = 0.0

    def reset() -> AbstractContextManager[Any]:
        nonlocal before
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = _retries(device)
        return nullcontext()

    resident = _steps(workload, reset)
    synchronise(device)
    return {
        "static": float(workload.static_bytes()),
        "peak": float(torch.cuda.max_memory_allocated(device)),
        "reserved": float(torch.cuda.max_memory_reserved(device)),
        "retries": _retries(device) - before,
        **resident,
    }


def _retries(device: torch.device) -> float:
    """How often this process's allocator has given its cache back for want of memory."""
    return float(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))


def _steps(workload: Workload, watch: Callable[[], AbstractContextManager[Any]]) -> dict[str, float]:
    """Takes the steps, the last of them watched. Returns ``resident``, where the system tells the peak of a stretch."""
    workload.fill()
    for _ in range(_SETTLING):
        workload.fetch()
        workload.step()
    can_tell = reset_resident_peak()
    with watch():
        for _ in range(_MEASURED):
            workload.fetch()
            workload.step()
    resident = resident_peak() if can_tell else None
    return {} if resident is None else {"resident": float(resident)}


def reset_resident_peak() -> bool:
    """Has Linux forget this process's peak resident size. Returns False where the system does not do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident_peak() -> int | None:
    """Peak resident size of this process since `reset_resident_peak`, in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
