"""The Lightning module for stream tasks: trains on block after block, memory carried, and scores whole splits.

One training step reads one block of every row. Gradient accumulation splits the rows into groups, never time, so every
row keeps its own memory and 4 x 2 rows give what 8 rows give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from models.backbone import Backbone
from models.state import State
from tasks.randomness import derive, seed_generators, uniform
from tasks.stream import Scorer, StreamBatch, StreamTask
from tasks.stream_step import enter, loss_divisor, read_block, token_nll
from tasks.task_module import TaskModule
from tasks.train_settings import TrainSettings


class StreamModule(TaskModule):
    """Trains a model on streams.

    Args:
        model: the backbone with its method.
        train: budget, batch, optimiser and schedule.
        new_scorer: makes a fresh scorer for an evaluation.
        seed: all randomness of training comes from it.
    """

    def __init__(self, model: Backbone, train: TrainSettings, new_scorer: Callable[[], Scorer], seed: int) -> None:
        super().__init__(model, train, new_scorer, seed)
        self._evaluated: State | None = None

    def trained(self) -> tuple[str, int, str]:
        train = self.settings
        return "train_tokens", train.steps * train.batch_size * train.block_length, "tokens"

    def training_step(self, batch: StreamBatch, batch_idx: int) -> None:
        train = self.settings
        seed_generators(derive(self.seed, "step", self.step, "rank", self.global_rank))
        randomness = uniform(self.seed, "step", self.step, "shared")
        read = read_block(
            self.model, batch, self.carried, randomness, train.accumulation, self._divisor(batch), self.manual_backward
        )
        if read.learns:
            self._update()
        self.carried = read.state
        self._stepped(batch.position, read.nats, batch.weights.sum(), read.statistics)

    def _divisor(self, batch: StreamBatch) -> Tensor:
        """What the summed loss of the batch is divided by."""
        ranks = self.trainer.world_size
        return loss_divisor(self._over_ranks(batch.weights.sum()) / ranks, ranks)

    def new_evaluation(self) -> None:
        super().new_evaluation()
        self._evaluated = None

    def _end_evaluation(self, split: str) -> None:
        self._evaluated = None
        super()._end_evaluation(split)

    def evaluate(self, batch: StreamBatch) -> dict[str, float]:
        state = enter(self.model, self._evaluated, batch)
        output = self.model(batch.inputs, state, edit_spans=self.edit_spans, caching=True)
        self._evaluated = output.state
        self.scorer.add(batch, output.y, token_nll(output, batch))
        return {**self.model.memory(output.state), **{name: float(value) for name, value in output.statistics.items()}}


def module(task: StreamTask, settings: Any, model: Backbone, train: TrainSettings, seed: int) -> StreamModule:
    """The module of one task with its settings, for `tasks.objectives`."""
    return StreamModule(model, train, lambda: task.scorer(settings, train), seed)
