"""A model of a few thousand weights on a few thousand bytes, trained as a cell would train it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from models.backbone import Backbone, BackboneSettings, build
from models.registry import METHODS
from tasks import document_labels, document_module, enwik8
from tasks.stream import StreamData
from tasks.stream_module import StreamModule
from tasks.train_settings import TrainSettings

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "full_attention": {"max_span": 20},
    "transformer_xl": {"memory_length": 12},
    "adaptive_span": {"max_span": 24, "ramp": 4, "coefficient": 0.02, "initial_ratio": 0.3, "trim_step": 4},
    "compressive": {"memory_length": 8, "compress_size": 16},
    "expire_span": {"max_span": 40, "ramp": 4, "coefficient": 0.02, "noisy": True, "layer_drop": 0.3},
}


def make_model(
    task: enwik8.Settings, method: str, block_length: int = 8, dropout: float = 0.0, double: bool = True
) -> Backbone:
    """Two small layers of a method, the same at every call."""
    torch.manual_seed(5)
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2, dropout=dropout)
    values = METHODS.load(method).Settings(**METHOD_SETTINGS.get(method, {}))
    model = build(method, values, backbone, block_length, enwik8.encoder(task, 16), enwik8.head(task, 16))
    return model.double() if double else model


def module_and_data(
    text: str, method: str = "expire_span", double: bool = True, dropout: float = 0.1, **train: Any
) -> tuple[StreamModule, StreamData]:
    """What trains a small model on a file, and the file's blocks; `train` changes single training settings."""
    base = {"steps": 12, "batch_size": 8, "block_length": 8, "learning_rate": 1e-2, "validate_every": 5, "log_every": 2}
    settings = TrainSettings(**{**base, **train})
    task = enwik8.Settings(path=text)
    model = make_model(task, method, settings.block_length, dropout, double)
    module = StreamModule(model, settings, lambda: enwik8.scorer(task, settings), seed=3)
    return module, StreamData(enwik8, task, settings, seed=3)


def documents_and_data(method: str, accumulation: int = 1) -> tuple[document_module.DocumentModule, StreamData]:
    """What trains a small model of a method that can read twice to label documents so, and the documents."""
    task = document_labels.Settings(document_tokens=32, names=5, classes=3, mention=0.4, evaluation_labels=60)
    train = TrainSettings(
        steps=6,
        batch_size=8,
        block_length=8,
        accumulation=accumulation,
        learning_rate=1e-2,
        clip=0.5,
        validate_every=4,
        log_every=1,
        evaluation_batch_size=4,
    )
    torch.manual_seed(5)
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2)
    values = METHODS.load(method).Settings(slots=6, reading="two_pass")
    encoder, head = document_labels.encoder(task, 16), document_labels.head(task, 16)
    model = build(method, values, backbone, train.block_length, encoder, head).double()
    module = document_module.module(document_labels, task, model, train, seed=3)
    return module, StreamData(document_labels, task, train, seed=3)


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


def make_trainer(module: StreamModule, *callbacks: pl.Callback, **extra: Any) -> pl.Trainer:
    """A trainer of the rest of the module's steps, as a cell has one; `extra` are further arguments of it."""
    train = module.settings
    return pl.Trainer(
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


def fit(module: StreamModule, data: StreamData, *callbacks: pl.Callback, **extra: Any) -> list[dict[str, float]]:
    """Trains to the end and returns what was logged."""
    logged: list[dict[str, float]] = []
    module._write = lambda figures, split="train": logged.append({"step": module.step, **figures})  # type: ignore[method-assign]
    make_trainer(module, *callbacks, **extra).fit(module, datamodule=data)
    return logged


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of every target, [B, T]."""
    return -logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


@torch.no_grad()
def bits_per_byte(model: Backbone, text: Tensor, train: TrainSettings) -> float:
    """A split read from beginning to end in its rows, each alone, without noise: what evaluation is to give."""
    model.eval()
    targets = len(text) - 1
    per_row = -(-targets // train.evaluation_batch_size)
    summed = 0.0
    for begin in range(0, targets, per_row):
        end, memory = min(begin + per_row, targets), model.init_state(1)
        for at in range(begin, end, train.block_length):
            stop = min(at + train.block_length, end)
            output = model(text[None, at:stop].long(), memory)
            memory = output.state
            summed += float(nats(output.y, text[None, at + 1 : stop + 1].long()).sum())
    return summed / math.log(2) / targets


def write_text(folder: Path) -> str:
    """A file with the first 12,000 bytes of the embedded text."""
    path = folder / "corpus.txt"
    path.write_bytes(enwik8.part(enwik8.Settings(), "train")[:12_000].numpy().tobytes())
    return str(path)
