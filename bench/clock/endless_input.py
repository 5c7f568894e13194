"""What the clock reads: a task's blocks without end and without resets, so that memory, once full, stays full.

A stream that ends begins anew and its row goes on with the memory it has. Reset as in training, all rows of a short
text would be timed with an empty memory at about the same step, and one shorter than the memory would never fill it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.cell import Parts
from tasks.stream import Blocks, Position, Source, StreamBatch, StreamData


class Unbroken:
    """The blocks of a source, of which none resets a row."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def blocks(self) -> int | None:
        """As many as the source has."""
        return self.source.blocks

    def start(self) -> Position:
        """The source's own."""
        return self.source.start()

    def read(self, position: Position) -> StreamBatch:
        """The source's block, its rows not reset."""
        batch = self.source.read(position)
        return replace(batch, reset=torch.zeros_like(batch.reset))


class UnbrokenData(StreamData):
    """The splits of a stream task for Lightning, the training rows without resets."""

    def training_source(self) -> Source:
        """This process's rows of the training stream."""
        return Unbroken(super().training_source())


def blocks(parts: Parts) -> Iterator[StreamBatch]:
    """The blocks of the training stream, without end."""
    rows = range(parts.train.batch_size)
    source = Unbroken(parts.task.training_source(parts.task_settings, parts.train, parts.module.seed, rows))
    position = source.start()
    while True:
        batch = source.read(position)
        position = batch.position
        yield batch


def again_and_again(source: Source) -> Iterator[StreamBatch]:
    """The blocks of a split that ends, again and again."""
    assert source.blocks is not None
    while True:
        yield from Blocks(Unbroken(source), source.start(), source.blocks)
