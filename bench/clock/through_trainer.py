"""The same training step inside Lightning's Trainer, one turn at a time: what the Trainer costs is the difference.

Validation, checkpoints and curves on disk are not part of it; the loop, its hooks and the loader are.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from bench.cell import build_parts, build_trainer, quiet
from bench.clock.contestant import Ready, Turn, is_steady
from bench.clock.device import synchronise
from bench.clock.endless_input import UnbrokenData, blocks
from bench.clock.workload import STILL, autocast, filled
from bench.spec import CellSpec
from tasks.document_module import DocumentModule
from tasks.episode_module import EpisodeModule
from tasks.stream import StreamData
from tasks.stream_module import StreamModule
from tasks.task_module import TaskModule

_ENDLESS = 1_000_000_000
"""Steps; the coordinator ends it."""


class Turns(pl.Callback):
    """Lets the Trainer run only while it is this process's turn."""

    def __init__(self, device: torch.device, coordinator: Connection, proof: str, warmup_steps: int) -> None:
        self.device, self.coordinator, self.proof, self.limit = device, coordinator, proof, warmup_steps
        self.warm: list[float] = []
        self.samples: list[float] = []
        self.wanted: int | None = None
        self.begin = self.last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self.wanted is None:  # warming up
            synchronise(self.device)
            now = time.perf_counter()
            self.warm.append(1000 * (now - self.last))
            self.last = now
            steady = is_steady(self.warm)
            if not steady and len(self.warm) < self.limit:
                return
            step_ms = sorted(self.warm)[len(self.warm) // 2]
            self.coordinator.send(Ready(step_ms, self.warm[0], self.proof, steady, _held(pl_module)))
        else:
            now = time.perf_counter()
            self.samples.append(1000 * (now - self.last))
            self.last = now
            if len(self.samples) < self.wanted:
                return
            synchronise(self.device)
            wall_ms = 1000 * (time.perf_counter() - self.begin)
            self.coordinator.send(Turn(self.samples, wall_ms, _held(pl_module)))
        self.wanted, self.samples = self.coordinator.recv(), []
        if self.wanted is None:
            trainer.should_stop = True
            self.wanted = _ENDLESS
        self.begin = self.last = time.perf_counter()


def _held(module: pl.LightningModule) -> dict[str, float]:
    """What the memory that training carries holds now."""
    assert isinstance(module, TaskModule)
    return module.held()


def serve(
    spec: CellSpec,
    weights: dict[str, Tensor] | None,
    device: torch.device,
    coordinator: Connection,
    proof: str,
    warmup_steps: int,
) -> None:
    """Trains in the Trainer, turn by turn, until the coordinator has had enough.

    Args:
        spec, weights, device: as for `TrainingStep`.
        coordinator: asks for turns by their number of steps, and ends it with None.
        proof: what the gate said.
        warmup_steps: after how many steps timing may begin at the latest.
    """
    endless: dict[str, Any] = {"steps": _ENDLESS, "validate_every": _ENDLESS, "checkpoint_every": _ENDLESS}
    still = {"learning_rate": STILL, "schedule": "constant", "warmup_steps": 0}
    parts = build_parts(replace(spec, train={**spec.train, **endless, **still}))
    if weights is not None:
        parts.model.load_state_dict(weights)
    parts.model.to(device)
    kind: type[StreamData]
    if isinstance(parts.module, DocumentModule):  # a document's memory begins empty
        kind = StreamData
    elif isinstance(parts.module, StreamModule):
        mixed = functools.partial(autocast, device, spec.precision)
        parts.module.carried, parts.module.position = filled(parts.model, blocks(parts), device, None, mixed)
        kind = UnbrokenData
    else:  # an episode's memory begins empty
        assert isinstance(parts.module, EpisodeModule)
        parts.module.whole = True
        kind = StreamData
    data = kind(parts.task, parts.task_settings, parts.train, spec.seed)
    turns = Turns(device, coordinator, proof, warmup_steps)
    with quiet():  # nothing is written: without logger and checkpoints, the Trainer has no use for its folder
        build_trainer(spec, Path(tempfile.gettempdir()), [turns], None, 1).fit(parts.module, datamodule=data)
