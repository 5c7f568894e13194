"""What an acting task hands to training: batches of episodes, each known by the seed that its worlds are drawn from.

The module of an acting task (``CARD["objective"] == "episodes"``) defines, beside its ``CARD`` and ``Settings``, which
derive from `actor_critic.LearningSettings`, the functions that the protocol `EpisodeTask` lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tasks.episode_scores import Who
from tasks.randomness import derive
from tasks.stream import Position, Score
from tasks.train_settings import TrainSettings
from tasks.worlds import Worlds


@dataclass
class EpisodeBatch:
    """An episode of every world.

    Args:
        seed: what the worlds are drawn from.
        greedy: whether the likeliest action is taken; else one is drawn.
        position: where the source goes on after this batch.
    """

    seed: int
    greedy: bool
    position: Position

    def to(self, device: torch.device | str, non_blocking: bool = False) -> EpisodeBatch:
        """Itself: the worlds are drawn on the model's device."""
        return self


class EpisodeSource:
    """The batches of episodes of a split. Position: `read`, how many were read.

    Args:
        name: the task's id; seed, split: which episodes.
        blocks: how many batches, one half of them greedy, for an evaluation; None for training, which never ends.
    """

    def __init__(self, name: str, seed: int, split: str, blocks: int | None = None) -> None:
        self.name, self.seed, self.split, self.blocks = name, seed, split, blocks

    def start(self) -> Position:
        """The first batch's."""
        return {"read": torch.zeros((), dtype=torch.long)}

    def read(self, position: Position) -> EpisodeBatch:
        number = int(position["read"])
        half = None if self.blocks is None else self.blocks // 2
        greedy = half is not None and number < half
        episode = number if half is None else number % half  # greedy and drawn actions meet the same worlds
        seed = derive(self.seed, self.name, self.split, "episodes", episode)
        return EpisodeBatch(seed, greedy, {"read": torch.tensor(number + 1)})


class EpisodeScorer(Protocol):
    """Adds up an evaluation's episodes."""

    def add(self, worlds: Worlds, who: Who) -> None:
        """Counts worlds that have all ended."""
        ...

    def scores(self) -> list[Score]:
        """The figures so far; the task's own metric first."""
        ...


class EpisodeTask(Protocol):
    """The functions of an acting task's module."""

    def label(self, settings: Any) -> str:
        """The task's name with its sizes."""
        ...

    def encoder(self, settings: Any, width: int) -> nn.Module:
        """What turns observations [B, T, ...] into hidden states [B, T, width]."""
        ...

    def head(self, settings: Any, width: int) -> nn.Module:
        """What turns hidden states [B, T, width] into action logits and a value [B, T, actions + 1]."""
        ...

    def worlds(self, settings: Any, count: int, first: int, device: torch.device) -> Worlds:
        """Worlds `first`, first + 1, ... of a batch."""
        ...

    def training_source(self, settings: Any, train: TrainSettings, seed: int, rows: range) -> EpisodeSource:
        """The training episodes."""
        ...

    def evaluation_source(self, settings: Any, train: TrainSettings, split: str) -> EpisodeSource:
        """At least 1,000 greedy episodes, and as many with drawn actions."""
        ...

    def scorer(self, settings: Any, train: TrainSettings) -> EpisodeScorer:
        """A fresh scorer."""
        ...


class ObservationEncoder(nn.Module):
    """Hidden states [B, T, width] from whole numbers [B, T, ...]: one vector per place and number, added up.

    Args:
        symbols: for each place how many numbers there are; width: E.
    """

    first: Tensor

    def __init__(self, symbols: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sum(symbols), width)
        nn.init.normal_(self.embedding.weight, std=len(symbols) ** -0.5)  # so that their sum is N(0, 1)
        self.register_buffer("first", torch.tensor((0, *symbols[:-1])).cumsum(0), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        return self.embedding(observation.flatten(2) + self.first).sum(2)  # type: ignore[no-any-return]
