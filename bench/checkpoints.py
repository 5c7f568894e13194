"""The two checkpoints of a cell, and when they are written.

`last.ckpt` holds all that the run needs to go on exactly; `best.ckpt` the weights of the best validation point, and the
cell's spec. Both are plain tensors, numbers and strings, read with ``weights_only=True``, and each replaces its
predecessor in one move.

A validation that is due always comes before the checkpoint of its step: so no checkpoint stands between a step and its
validation, and a run that is killed in a validation does the whole validation again.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from bench.spec import CellSpec
from bench.store import places
from bench.store.atomic import move, write_bytes
from bench.store.cell_folder import CellFolder
from bench.store.claim import GivenUp
from bench.store.damaged import DamagedFile
from models.errors import SettingsError
from tasks.task_module import TaskModule


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint; a crash leaves the old one, and so does GivenUp, raised where it cannot be written."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise GivenUp(f"{path.parent.name}/{path.name} cannot be written: {_words(error)}") from error


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint on the CPU.

    Raises:
        OSError, MemoryError: it is not there, or cannot be read now; neither says anything about its content.
        DamagedFile: its content is not a checkpoint's.
    """
    try:
        content = _loaded(path)
    except DamagedFile:
        # PyTorch reports a failing disk as it does a damaged archive. Reading every byte tells them apart; and where
        # that works now, so may the loading.
        _read_through(path)
        content = _loaded(path)
    if not isinstance(content, dict) or "model" not in content:
        raise DamagedFile(path, "it is no checkpoint of a cell")
    return content


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # the words of PyTorch's CPU allocator
            raise MemoryError(str(error)) from error
        raise DamagedFile(path, f"PyTorch cannot read it ({type(error).__name__})") from error


def _read_through(path: Path) -> None:
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint that the user names. Raises SettingsError, naming the file, where it cannot be used."""
    remedy = "A cell's checkpoints/best.ckpt is meant."
    try:
        return read(path)
    except FileNotFoundError as error:
        raise SettingsError("CHECKPOINT", f"there is no file {path}", remedy) from error
    except IsADirectoryError as error:
        raise SettingsError("CHECKPOINT", f"{path} is a folder", remedy) from error
    except (OSError, MemoryError) as error:
        raise SettingsError(
            "CHECKPOINT", f"{path} cannot be read: {_words(error)}", "Try again when that is mended."
        ) from error
    except DamagedFile as error:
        raise SettingsError(
            "CHECKPOINT", f"{path} is damaged: {error.why}", f"Run its cell again, or take another file. {remedy}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Reads a checkpoint of the cell that this process runs; None where there is none to go on from.

    One that is damaged is moved aside, so that it is never written over, and that is said aloud.

    Raises GivenUp where it cannot be read now: starting again would throw away what the next process may well read.
    """
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        number = 1 + len(list(path.parent.glob(f"{path.name}.damaged-*")))
        aside = path.with_name(f"{path.name}.damaged-{number}")
        move(path, aside)
        print(f"starting again from step 0: {error}; it is kept as {aside.name}", flush=True)
        return None
    except (OSError, MemoryError) as error:
        raise GivenUp(f"{path.parent.name}/{path.name} cannot be read: {_words(error)}") from error


def _words(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    return error.strerror or str(error)


class Checkpoints(pl.Callback):
    """Writes `last` and `best`.

    Args:
        folder: the cell's.
        spec: stands in the checkpoints, so that they can be evaluated without their study.
        higher_is_better: of the task's metric.
    """

    def __init__(self, folder: CellFolder, spec: CellSpec, higher_is_better: bool) -> None:
        self.folder, self.spec = folder, spec
        self.last, self.best = folder.checkpoints / "last.ckpt", folder.checkpoints / "best.ckpt"
        self.sign = 1.0 if higher_is_better else -1.0
        self.best_value, self.best_step = math.nan, -1

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes over what `last` knows of the best point, unless a run that was killed has replaced its weights.

        Then the next validation is the best so far, as it was in that run; on a device that repeats itself, exactly so.
        """
        best = read_checkpoint(self.best)
        if best is not None and best.get("step") == int(saved["best_step"]):
            self.best_value, self.best_step = float(saved["best_value"]), int(saved["best_step"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TaskModule)
        train, step = pl_module.settings, pl_module.step
        validation_due = step % train.validate_every == 0 or step == train.steps
        if step % train.checkpoint_every == 0 and not validation_due:
            self._save_last(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskModule)
        value = pl_module.scores[0].value
        if math.isnan(self.best_value) or self.sign * value > self.sign * self.best_value:
            self.best_value, self.best_step = value, pl_module.step
            if trainer.is_global_zero:
                save(self.best, {"model": pl_module.model.state_dict(), "step": self.best_step, **self._about()})
        self._save_last(trainer, pl_module)

    def _save_last(self, trainer: pl.Trainer, module: TaskModule) -> None:
        module.check_finite()
        content = module.resume_state()  # on every rank: it gathers
        if trainer.is_global_zero:
            self.folder.sync()  # the learning curve up to here, before what goes on from here
            save(self.last, {**content, **self._about()})

    def _about(self) -> dict[str, Any]:
        spec = json.dumps(places.portable(self.spec.to_json()))
        return {"best_value": self.best_value, "best_step": self.best_step, "spec": spec}
