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
from bench.store.atomic import write_bytes
from bench.store.cell_folder import CellFolder
from models.errors import SettingsError
from tasks.stream_module import StreamModule


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint; a crash leaves the old one."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint on the CPU. Raises SettingsError, naming the file, where it is missing or damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SettingsError(
            "CHECKPOINT", f"there is no file {path}", "A cell's checkpoints/best.ckpt is meant."
        ) from error
    except Exception as error:
        raise SettingsError(
            "CHECKPOINT",
            f"{path} is damaged ({type(error).__name__})",
            "Run its cell again, or take another checkpoint.",
        ) from error
    if not isinstance(content, dict) or "model" not in content:
        raise SettingsError(
            "CHECKPOINT", f"{path} is no checkpoint of a cell", "A cell's checkpoints/best.ckpt is meant."
        )
    return content


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
        if self.best.exists() and load(self.best).get("step") == int(saved["best_step"]):
            self.best_value, self.best_step = float(saved["best_value"]), int(saved["best_step"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StreamModule)
        train, step = pl_module.settings, pl_module.step
        validation_due = step % train.validate_every == 0 or step == train.steps
        if step % train.checkpoint_every == 0 and not validation_due:
            self._save_last(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StreamModule)
        value = pl_module.scores[0].value
        if math.isnan(self.best_value) or self.sign * value > self.sign * self.best_value:
            self.best_value, self.best_step = value, pl_module.step
            if trainer.is_global_zero:
                save(self.best, {"model": pl_module.model.state_dict(), "step": self.best_step, **self._about()})
        self._save_last(trainer, pl_module)

    def _save_last(self, trainer: pl.Trainer, module: StreamModule) -> None:
        module.check_finite()
        content = module.resume_state()  # on every rank: it gathers
        if trainer.is_global_zero:
            self.folder.sync()  # the learning curve up to here, before what goes on from here
            save(self.last, {**content, **self._about()})

    def _about(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step, "spec": json.dumps(self.spec.to_json())}
