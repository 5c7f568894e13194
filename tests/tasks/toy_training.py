"""A model of a few thousand weights on a few thousand bytes, trained as a cell would train it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from models.backbone import BackboneSettings, build
from models.registry import METHODS
from tasks import enwik8
from tasks.stream import StreamData
from tasks.stream_module import StreamModule
from tasks.train_settings import TrainSettings

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "full_attention": {"max_span": 20},
    "transformer_xl": {"memory_length": 12},
    "adaptive_span": {"max_span": 24, "ramp": 4, "coefficient": 0.01, "trim_step": 4},
    "compressive": {"memory_length": 8, "compress_size": 16},
    "expire_span": {"max_span": 40, "ramp": 4, "coefficient": 1e-3, "noisy": True, "layer_drop": 0.3},
}


def module_and_data(
    text: str, method: str = "expire_span", double: bool = True, dropout: float = 0.1, **train: Any
) -> tuple[StreamModule, StreamData]:
    base = {"steps": 12, "batch_size": 8, "block_length": 8, "learning_rate": 1e-2, "validate_every": 5, "log_every": 2}
    settings = TrainSettings(**{**base, **train})
    task = enwik8.Settings(path=text)
    torch.manual_seed(5)
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2, dropout=dropout)
    values = METHODS.load(method).Settings(**METHOD_SETTINGS.get(method, {}))
    model = build(method, values, backbone, settings.block_length, enwik8.encoder(task, 16), enwik8.head(task, 16))
    module = StreamModule(model.double() if double else model, settings, lambda: enwik8.scorer(task, settings), seed=3)
    return module, StreamData(enwik8, task, settings, seed=3)


class Stop(Exception):
    pass


class StopAt(pl.Callback):
    """Saves the resume state after a step and stops there, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step, self.saved = step, b""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, StreamModule)
        if pl_module.step == self.step:
            buffer = io.BytesIO()
            torch.save(pl_module.resume_state(), buffer)
            self.saved = buffer.getvalue()
            raise Stop


def fit(module: StreamModule, data: StreamData, *callbacks: pl.Callback, **extra: Any) -> list[dict[str, float]]:
    """Trains to the end and returns what was logged."""
    logged: list[dict[str, float]] = []
    module._write = lambda figures, split="train": logged.append({"step": module.step, **figures})  # type: ignore[method-assign]
    train = module.settings
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        max_epochs=-(-train.steps // train.validate_every) - module.step // train.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **extra,
    )
    trainer.fit(module, datamodule=data)
    return logged


def write_text(folder: Path) -> str:
    """A file with the first 12,000 bytes of the embedded text."""
    path = folder / "corpus.txt"
    path.write_bytes(enwik8.part(enwik8.Settings(), "train")[:12_000].numpy().tobytes())
    return str(path)
