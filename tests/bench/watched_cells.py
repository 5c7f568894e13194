"""Real cells (`bench.cell`) that say at every moment what they are doing, so that a test knows where its kill hit.

Loaded by name in the cell's process, like `bench.cell`. What the cell does and writes is what it does unwatched.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from bench import cell, checkpoints
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim
from bench.store.result import Result
from models.registry import load_file
from tasks.stream_module import StreamModule

moments = load_file(Path(__file__).with_name("moments.py"))

FOLDER = "moments"
"""Where the cells of a study tell their moments: beside the study's folder."""


def run_cell(spec: CellSpec, folder: CellFolder, claim: Claim | None, fresh: bool) -> Result:
    """Runs a cell as `bench.cell.run_cell` does; its result is written by the caller, watched as well."""
    teller = moments.Teller(folder.path.parents[2] / FOLDER, spec.id)
    teller.say(moments.SET_UP)
    # For the rest of this process, which runs one cell.
    _step(StreamModule, "training_step", moments.TRAINING, teller)
    _step(StreamModule, "validation_step", moments.VALIDATION, teller)
    _step(StreamModule, "test_step", moments.TEST, teller)
    # A checkpoint is written in training or after a validation, which training follows; the last one of a process.
    _writing(checkpoints, "save", moments.CHECKPOINT, moments.TRAINING, teller)
    _writing(CellFolder, "write_result", moments.RESULT, moments.ENDED, teller)
    return cell.run_cell(spec, folder, claim, fresh)


def _put(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts a function that `make` makes of the one that is there in its place."""
    before = getattr(owner, name)
    mock.patch.object(owner, name, functools.wraps(before)(make(before))).start()


def _step(owner: Any, name: str, phase: str, teller: Any) -> None:
    """Says that a phase has begun before each of its steps, and stops after one, with the memory that it left."""

    def make(before: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            teller.say(phase)
            output = before(*args, **options)
            teller.stop_here(phase)
            return output

        return step

    _put(owner, name, make)


def _writing(owner: Any, name: str, phase: str, then: str, teller: Any) -> None:
    """Says how far a function that writes one file is, and at its end that the phase `then` has begun."""

    def make(before: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            teller.say(phase)
            with mock.patch.object(os, "replace", functools.partial(_replace, os.replace, phase, teller)):
                written = before(*args, **options)
            teller.say(then)
            return written

        return write

    _put(owner, name, make)


def _replace(replace: Callable[..., None], phase: str, teller: Any, source: Path, target: Path) -> None:
    """`os.replace` at the end of an atomic write, with what comes before and after it."""
    name = Path(target).name
    if name == "heartbeat.json":
        # The heartbeat's thread, which writes at any time, is not meant.
        replace(source, target)
        return
    half = os.path.getsize(source) // 2
    teller.stop_here(f"{phase}, {name} {moments.HALF}", lambda: os.truncate(source, half))
    teller.stop_here(f"{phase}, {name} {moments.WHOLE}")
    replace(source, target)
    teller.stop_here(f"{phase}, {name} {moments.IN_PLACE}")
