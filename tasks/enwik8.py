"""Byte-level language modelling of Wikipedia text: what comes next, in bits per byte.

The first 10^8 bytes of an English Wikipedia dump (Mahoney's enwik8), 90 / 5 / 5 million for training, validation and
test; by default the first 4,000,000 bytes of it, which ship with the project, split in the same proportions and
labelled `enwik8-4M` everywhere. Each part is cut into B contiguous streams that are read block after block, memory
carried. In training a row that reaches its stream's end is reset and starts again at a random offset in [0, T).

    bpb = sum of nats / (ln 2 * number of bytes)     over all bytes of the split that have a predecessor
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import SettingsError
from tasks.data_files import ENWIK8_MD5, enwik8_place, excerpt_bytes, full_enwik8
from tasks.randomness import derive
from tasks.stream import Position, Score, StreamBatch
from tasks.train_settings import TrainSettings

CARD = {
    "title": "enwik8",
    "metric": "bpb",
    "unit": "bits/byte",
    "higher_is_better": False,
    "version": 1,
    "objective": "streams",
    "sizes": ["quick", "small", "paper"],
    "files": ["path"],
}
VOCABULARY = 256
# Ends of training and validation as twentieths of the whole: 90 / 5 / 5 per cent.
SPLITS = {"train": (0, 18), "validation": (18, 19), "test": (19, 20)}


@dataclass(frozen=True)
class Settings:
    """Settings of `enwik8`."""

    data: Literal["excerpt", "full"] = "excerpt"
    """The first 4,000,000 bytes, which ship with the project, or all 100,000,000 (`make data`)."""
    path: str | None = None
    """Any file to be read as bytes instead, such as text8 or a corpus of your own; split 90 / 5 / 5."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError where the data is missing or too short for these blocks."""
    if settings.path is not None and settings.data == "full":
        raise SettingsError(
            "task.enwik8.data", "is full while task.enwik8.path names another file", "Drop one of them."
        )
    if settings.path is not None and not Path(settings.path).is_file():
        raise SettingsError("task.enwik8.path", f"there is no file {settings.path}", "Give the path of a file.")
    if settings.path is not None and Path(settings.path).stat().st_size == 0:
        raise SettingsError("task.enwik8.path", f"{settings.path} is empty", "Give the path of a text.")
    if settings.data == "full" and full_enwik8() is None:
        raise SettingsError(
            "task.enwik8.data",
            f"the full enwik8 is not at {enwik8_place()}",
            "Run `make data`, or let SPANBENCH_DATA point to a copy.",
        )
    needed = 2 * train.block_length + 1
    for split, rows in (("train", train.batch_size), ("validation", train.evaluation_batch_size)):
        held = len(part(settings, split)) // rows
        if held < needed:
            key = "train.batch_size" if split == "train" else "train.evaluation_batch_size"
            raise SettingsError(
                key,
                f"{rows} rows of the {split} part have {held} bytes each, and two blocks need {needed}",
                "Use a longer text, fewer rows, or a smaller train.block_length.",
            )


def label(settings: Settings) -> str:
    """`enwik8-4M`, `enwik8`, or `bytes-NAME` for a file of the user's."""
    if settings.path is not None:
        return f"bytes-{Path(settings.path).stem}"
    return "enwik8" if settings.data == "full" else "enwik8-4M"


def encoder(settings: Settings, width: int) -> nn.Module:
    """One vector [width] per byte value."""
    return nn.Embedding(VOCABULARY, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits [256] from hidden states [width]."""
    return nn.Linear(width, VOCABULARY)


@functools.lru_cache(maxsize=2)
def _whole(data: str, path: str | None) -> Tensor:
    if path is not None:
        return torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8)
    if data == "excerpt":
        return torch.frombuffer(bytearray(excerpt_bytes()), dtype=torch.uint8)
    full = full_enwik8()
    if full is None:
        raise SettingsError("task.enwik8.data", f"the full enwik8 is not at {enwik8_place()}", "Run `make data`.")
    text = full.read_bytes()
    if hashlib.md5(text, usedforsecurity=False).hexdigest() != ENWIK8_MD5:
        raise SettingsError(
            "task.enwik8.data",
            f"{full.name} on disk is not enwik8: its md5 is another",
            "Remove it and run `make data`.",
        )
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


@functools.lru_cache(maxsize=2)
def digest(data: str, path: str | None) -> str:
    """SHA-256 of the whole text, in hexadecimal."""
    return hashlib.sha256(_whole(data, path).numpy().tobytes()).hexdigest()


def part(settings: Settings, split: str) -> Tensor:
    """The bytes [n] of one split."""
    whole = _whole(settings.data, settings.path)
    begin, end = SPLITS[split]
    return whole[len(whole) * begin // 20 : len(whole) * end // 20]


class TrainingStream:
    """B endless rows over the training part; every row starts at its own random offset.

    Position: `byte` [rows], where each row reads next within its stream; `lap` [rows], how often it started again.
    """

    blocks = None

    def __init__(self, text: Tensor, train: TrainSettings, seed: int, rows: range) -> None:
        self.text, self.length, self.seed, self.rows = text, train.block_length, seed, rows
        self.stream_bytes = len(text) // train.batch_size

    def offset(self, row: int, lap: int) -> int:
        return derive(self.seed, "enwik8", "train", "row", row, "lap", lap) % self.length

    def start(self) -> Position:
        return {
            "byte": torch.tensor([self.offset(row, 0) for row in self.rows]),
            "lap": torch.zeros(len(self.rows), dtype=torch.long),
        }

    def read(self, position: Position) -> StreamBatch:
        byte, lap = position["byte"].clone(), position["lap"].clone()
        ended = byte + self.length + 1 > self.stream_bytes
        for index in ended.nonzero().flatten().tolist():
            lap[index] += 1
            byte[index] = self.offset(self.rows[index], int(lap[index]))
        begin = byte + torch.tensor(self.rows) * self.stream_bytes
        window = self.text[begin[:, None] + torch.arange(self.length + 1)].long()  # [B, T + 1]
        return StreamBatch(
            inputs=window[:, :-1],
            targets=window[:, 1:],
            weights=torch.ones(len(self.rows), self.length),
            reset=ended,
            position={"byte": byte + self.length, "lap": lap},
        )


class WholeSplit:
    """All bytes of a part that have a predecessor, in B contiguous rows, the ragged end padded with weight 0.

    Position: `block`, the number of the next block.
    """

    def __init__(self, text: Tensor, rows: int, length: int) -> None:
        self.text, self.row_count, self.length = text, rows, length
        self.targets = len(text) - 1
        self.per_row = math.ceil(self.targets / rows)
        self.blocks = math.ceil(self.per_row / length)

    def start(self) -> Position:
        return {"block": torch.zeros((), dtype=torch.long)}

    def read(self, position: Position) -> StreamBatch:
        block = int(position["block"])
        within = block * self.length + torch.arange(self.length)  # place in the row
        index = torch.arange(self.row_count)[:, None] * self.per_row + within  # place of the input byte in the text
        counts = (within < self.per_row) & (index < self.targets)
        index = index.clamp(max=self.targets - 1)
        return StreamBatch(
            inputs=self.text[index].long(),
            targets=self.text[index + 1].long(),
            weights=counts.float(),
            reset=torch.zeros(self.row_count, dtype=torch.bool),
            position={"block": torch.tensor(block + 1)},
        )


class BitsPerByte:
    """Summed nats over summed bytes; never a mean of batch means."""

    def __init__(self, context: dict[str, str | int | float | bool]) -> None:
        self.context = context
        self.nats, self.count = 0.0, 0

    def add(self, batch: StreamBatch, logits: Tensor, nll: Tensor) -> None:
        self.nats += float((nll.cpu().double() * batch.weights.cpu()).sum())  # on the CPU: not every device has float64
        self.count += int(batch.weights.sum())

    def scores(self) -> list[Score]:
        return [Score("bpb", self.nats / (math.log(2) * self.count), "bits/byte", self.count, False, self.context)]


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> TrainingStream:
    """The endless training rows `rows` of ``train.batch_size``."""
    return TrainingStream(part(settings, "train"), train, seed, rows)


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> WholeSplit:
    """The whole split, in ``train.evaluation_batch_size`` rows."""
    return WholeSplit(part(settings, split), train.evaluation_batch_size, train.block_length)


def scorer(settings: Settings, train: TrainSettings) -> BitsPerByte:
    """A fresh count of bits per byte."""
    return BitsPerByte(
        {
            "block_length": train.block_length,
            "evaluation_batch_size": train.evaluation_batch_size,
            "data_sha256": digest(settings.data, settings.path)[:16],
        }
    )
