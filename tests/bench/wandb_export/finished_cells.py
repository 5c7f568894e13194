"""Studies of finished cells, written through the store as `bench run` writes them, without training anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.spec import CellSpec
from bench.store import clock_file, manifest
from bench.store.clock_file import Clocked, ClockFile
from bench.store.result import Result, Row
from bench.store.statuses import Status

STARTED = "2026-03-01T12:00:00.500+00:00"
BEGAN = 1772366400.5


def spec(method: str = "expire_span", variant: str = "", seed: int = 0, **others: Any) -> CellSpec:
    """A cell's spec with nested settings of every kind."""
    cell = CellSpec(
        task="enwik8",
        task_label="enwik8-4M",
        task_version=1,
        task_settings={"data": "excerpt", "path": None},
        method=method,
        variant=variant,
        method_settings={"max_span": 96, "ramp": 16, "noisy": False},
        impl="reference",
        backbone={"layers": 2, "head_dim": None},
        train={"steps": 50, "learning_rate": 3e-3},
        trainer={"accelerator": "cpu", "devices": 1},
        precision="32-true",
        seed=seed,
        preset="small",
    )
    return replace(cell, **others)


def records() -> list[dict[str, Any]]:
    """A learning curve: three steps, the last with a validation."""
    found = [
        {"step": step, "metric": "loss", "value": 4.0 / step, "split": "train", "seconds": 0.5 * step}
        for step in (10, 20, 50)
    ]
    return [*found, {"step": 50, "metric": "bpb", "value": 2.75, "split": "validation", "seconds": 26.0}]


def result(cell: CellSpec, status: Status = Status.OK, reason: str = "", bpb: float = 2.5) -> Result:
    """A cell's result; one that is not ok has no rows."""
    rows = [
        Row("bpb", bpb, "bits/byte", "test", n=1000, higher_is_better=False),
        Row("parameters", 4096.0, "parameters", ""),
        Row("state_bytes", None, "bytes", "test"),
    ]
    origin = {"commit": "0123abc", "torch": "2.13.0", "device": "a processor", "threads": 1}
    rows = rows if status is Status.OK else []
    return Result(cell.id, status, reason, "", rows, origin, STARTED, seconds=31.5, attempt=1)


def write(study_dir: Path, *ended: tuple[CellSpec, Result]) -> None:
    """Makes a study of these cells, with learning curves."""
    manifest.merge(study_dir, [cell for cell, _ in ended], preset="small")
    for cell, how in ended:
        folder = manifest.cell_folder(study_dir, cell.id)
        if not folder.metrics_path.exists():
            folder.append(records())
        folder.write_result(how)


def write_clock(study_dir: Path, cell: CellSpec) -> None:
    """Adds what the clock measured of a cell."""
    rows = [
        Row("time_per_batch", 12.5, "ms", "train", 30, 12.0, 12.5, 13.5, False),
        Row("memory_peak", 1e6, "bytes", "train"),
    ]
    settings = {"rounds": 4, "steps": 12}
    clocked = Clocked(cell.id, "f" * 64, "ok", rows=rows, samples={"step": [[12.5]]})
    clock_file.write(
        study_dir, ClockFile(cell.task_label, settings, [clocked], {"device": "a processor"}, STARTED, 9.0)
    )
