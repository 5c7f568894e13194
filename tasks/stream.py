"""What a stream task hands to training: blocks of B rows, one after the other, from a source that can be re-entered.

A source is a pure function of its position: `read(position)` gives the block there and the position after it. So the
position that a run carries is what was *consumed*, whatever a loader has fetched ahead, and resuming is reading on.

The module of a stream task (``CARD["objective"] == "streams"``) defines, beside its ``CARD`` and ``Settings``, the
functions that the protocol `StreamTask` lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from models.errors import SettingsError
from tasks.train_settings import TrainSettings

Position = dict[str, Tensor]


@dataclass
class StreamBatch:
    """One block of every row.

    Args:
        inputs: [B, T, ...] what the encoder reads.
        targets: [B, T] class of each position.
        weights: [B, T] float, how much each position counts; 0 for none.
        reset: [B] bool, rows whose memory is reset before this block.
        position: where the source goes on after this block.
        distance: [B, T] how far before its target the source token stands, in tokens; None where the task has none.
        item: [B, T] answer or episode id, -1 for none; None where the task has none.
        kind: [B, T] small integers that tell kinds of target apart; None where the task has none.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    reset: Tensor
    position: Position
    distance: Tensor | None = None
    item: Tensor | None = None
    kind: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StreamBatch:
        """The batch with its tensors on `device`; the position stays where it is."""
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self._tensors().items()}
        return replace(self, **moved)  # type: ignore[arg-type]

    def rows(self, index: slice) -> StreamBatch:
        """The batch of some rows."""
        return replace(self, **{name: tensor[index] for name, tensor in self._tensors().items()})  # type: ignore[arg-type]

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


class Source(Protocol):
    """Blocks of one split, for some rows."""

    @property
    def blocks(self) -> int | None:
        """Number of blocks, or None for a source without end."""
        ...

    def start(self) -> Position:
        """The position of the first block."""
        ...

    def read(self, position: Position) -> StreamBatch:
        """The block at a position."""
        ...


@dataclass(frozen=True)
class Score:
    """One figure of an evaluation.

    Args:
        metric: its name; value: its value in `unit`; n: how many positions or items it is made of.
        context: what a reader needs to judge it, such as the block length.
    """

    metric: str
    value: float
    unit: str
    n: int
    higher_is_better: bool
    context: dict[str, str | int | float | bool]


def check_unscored(key: str, unscored: int, horizon: int) -> None:
    """Raises SettingsError where memory could still be filling up when an evaluation's scoring begins.

    Args:
        key: the task's, such as ``task.long_copy``; unscored: its `unscored_tokens`.
        horizon: how many positions back the method can look.
    """
    if unscored < horizon:
        raise SettingsError(
            f"{key}.unscored_tokens",
            f"{unscored} tokens do not fill a memory that reaches back {horizon}",
            f"Give at least {horizon}, the same for all methods of a table.",
        )


class Scorer(Protocol):
    """Adds up an evaluation's blocks."""

    def add(self, batch: StreamBatch, logits: Tensor, nll: Tensor) -> None:
        """Counts one block: logits [B, T, V] and nats per position [B, T]."""
        ...

    def scores(self) -> list[Score]:
        """The figures so far; the task's own metric first."""
        ...


class Consumer(Protocol):
    """The Lightning module, as far as the data needs to know it: how many blocks it consumed and where it stands."""

    step: int

    def consumed(self) -> Position | None:
        """Where this process's stream goes on; None at its start."""
        ...


class StreamTask(Protocol):
    """The functions of a stream task's module."""

    def label(self, settings: Any) -> str:
        """The task's name with its data, such as ``enwik8-4M``."""
        ...

    def encoder(self, settings: Any, width: int) -> nn.Module:
        """What turns inputs [B, T, ...] into hidden states [B, T, width]."""
        ...

    def head(self, settings: Any, width: int) -> nn.Module:
        """What turns hidden states [B, T, width] into logits [B, T, V]."""
        ...

    def training_source(self, settings: Any, train: TrainSettings, seed: int, rows: range) -> Source:
        """The training stream of these rows out of ``train.batch_size``."""
        ...

    def evaluation_source(self, settings: Any, train: TrainSettings, split: str) -> Source:
        """The whole split ``validation`` or ``test``, in ``train.evaluation_batch_size`` rows."""
        ...

    def scorer(self, settings: Any, train: TrainSettings) -> Scorer:
        """A fresh scorer."""
        ...


class Blocks:
    """An iterable over some blocks of a source, from a position that is asked for when iteration begins."""

    def __init__(self, source: Source, position: Position, count: int) -> None:
        self.source, self.position, self.count = source, position, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StreamBatch]:
        position = self.position
        for _ in range(self.count):
            batch = self.source.read(position)
            position = batch.position
            yield batch


class StreamData(pl.LightningDataModule):
    """The three splits of a stream task, for Lightning.

    An epoch is the stretch from one validation to the next, so that Lightning's own progress says nothing that a
    resumed run would need.

    Args:
        task: the task's module; settings: its Settings; train: how it is trained.
        seed: of the training data.
    """

    def __init__(self, task: StreamTask, settings: object, train: TrainSettings, seed: int) -> None:
        super().__init__()
        self.task, self.task_settings, self.train, self.seed = task, settings, train, seed
        self._training: Source | None = None

    def training_source(self) -> Source:
        """This process's rows of the training stream."""
        if self._training is None:
            ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
            if self.train.batch_size % (ranks * self.train.accumulation):
                raise SettingsError(
                    "train.batch_size",
                    f"{self.train.batch_size} rows cannot be shared evenly by {ranks} processes with "
                    f"{self.train.accumulation} groups each",
                    "Choose a multiple of processes times train.accumulation.",
                )
            share = self.train.batch_size // ranks
            self._training = self.task.training_source(
                self.task_settings, self.train, self.seed, range(rank * share, (rank + 1) * share)
            )
        return self._training

    def train_dataloader(self) -> Blocks:
        assert self.trainer is not None
        module = cast(Consumer, self.trainer.lightning_module)
        done = module.step
        stretch = self.train.validate_every - done % self.train.validate_every
        source = self.training_source()
        position = module.consumed()
        return Blocks(source, source.start() if position is None else position, min(stretch, self.train.steps - done))

    def val_dataloader(self) -> Blocks:
        return self._evaluation("validation")

    def test_dataloader(self) -> Blocks:
        return self._evaluation("test")

    def _evaluation(self, split: str) -> Blocks:
        source = self.task.evaluation_source(self.task_settings, self.train, split)
        assert source.blocks is not None
        return Blocks(source, source.start(), source.blocks)
