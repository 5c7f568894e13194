"""The Lightning module for stream tasks: trains on block after block, memory carried, and scores whole splits.

One training step reads one block of every row. Gradient accumulation splits the rows into groups, never time, so every
row keeps its own memory and 4 x 2 rows give what 8 rows give. A step's randomness comes from (seed, step). What a run
would need to go on exactly is `resume_state`: weights, optimiser, carried memory, the position consumed, the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from models.backbone import Backbone
from models.state import State, map_state
from tasks.randomness import derive, seed_generators, uniform
from tasks.stream import Position, Score, Scorer, StreamBatch
from tasks.stream_step import enter, loss_divisor, read_block, token_nll
from tasks.train_settings import TrainSettings, build_optimiser


class Diverged(RuntimeError):
    """The loss is no longer finite."""


class StreamModule(pl.LightningModule):
    """Trains a model on streams.

    Args:
        model: the backbone with its method.
        train: budget, batch, optimiser and schedule.
        new_scorer: makes a fresh scorer for an evaluation.
        seed: all randomness of training comes from it.
    """

    def __init__(self, model: Backbone, train: TrainSettings, new_scorer: Callable[[], Scorer], seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False  # one update per group of rows, not per batch that Lightning counts
        self.model, self.settings, self.new_scorer, self.seed = model, train, new_scorer, seed
        self.step = 0
        self.position: Position | None = None
        self.carried: State | None = None
        self.scores: list[Score] = []
        self.statistics: dict[str, float] = {}
        self.edit_spans: Callable[[int, Tensor], Tensor] | None = None  # evaluation's "what if", see Backbone.forward
        self._loaded: dict[str, Any] | None = None
        self._evaluated: State | None = None
        self._scorer: Scorer | None = None
        self._nats = torch.zeros((), dtype=torch.float64)
        self._weight = torch.zeros((), dtype=torch.float64)
        self._named: dict[str, Tensor] = {}
        self._steps_named = 0

    # Training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimiser(self.settings, self.model.parameters())

    def on_train_start(self) -> None:
        """Puts a loaded optimiser and scaler in place, which exist only from here on."""
        if self._loaded is None:
            return
        self._optimiser().load_state_dict(self._loaded["optimiser"])
        self.trainer.precision_plugin.load_state_dict(self._loaded["precision"])
        self._nats, self._weight = self._loaded["nats"].to(self.device), self._loaded["weight"].to(self.device)
        self._named = {name: value.to(self.device) for name, value in self._loaded["named"].items()}
        self._steps_named = int(self._loaded["steps_named"])
        carried = self._loaded["carried"][self.global_rank]
        self.carried = map_state(carried, lambda tensor: tensor.to(self.device))
        self._loaded = None

    def consumed(self) -> Position | None:
        """Where this process's training stream goes on; None at its start."""
        return self.position if self._loaded is None else cast(Position, self._loaded["position"][self.global_rank])

    def training_step(self, batch: StreamBatch, batch_idx: int) -> None:
        train = self.settings
        seed_generators(derive(self.seed, "step", self.step, "rank", self.global_rank))
        randomness = uniform(self.seed, "step", self.step, "shared")
        read = read_block(
            self.model, batch, self.carried, randomness, train.accumulation, self._divisor(batch), self.manual_backward
        )
        self._named = {name: self._named.get(name, 0) + value for name, value in read.statistics.items()}
        self._steps_named += 1
        if read.learns:
            self._update()
        self.carried = read.state
        self.position = batch.position
        self.step += 1
        self._nats = self._nats.to(read.nats) + read.nats
        self._weight = self._weight.to(read.nats) + batch.weights.sum().to(read.nats)
        if self.step % train.log_every == 0 or self.step == train.steps:
            self._log_training()

    def _divisor(self, batch: StreamBatch) -> Tensor:
        """What the summed loss of the batch is divided by."""
        ranks = self.trainer.world_size
        return loss_divisor(self._over_ranks(batch.weights.sum()) / ranks, ranks)

    def _update(self) -> None:
        for group in self._optimiser().param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        wrapped = self.optimizers()
        assert not isinstance(wrapped, list)
        wrapped.step()
        wrapped.zero_grad()
        self.model.after_step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips, where Lightning has taken any loss scale out of the gradients already."""
        if self.settings.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)

    def _optimiser(self) -> torch.optim.Optimizer:
        wrapped = self.optimizers(use_pl_optimizer=False)
        assert isinstance(wrapped, torch.optim.Optimizer)
        return wrapped

    def _log_training(self) -> None:
        self.check_finite()
        nats, weight = self._over_ranks(self._nats), self._over_ranks(self._weight)
        if weight > 0:
            rate = self.settings.learning_rate_at(self.step - 1)
            named = {name: float(value) / self._steps_named for name, value in self._named.items()}
            self._write({"loss": float(nats / weight), "learning_rate": rate, **named})
        self._nats, self._weight = torch.zeros_like(self._nats), torch.zeros_like(self._weight)
        self._named, self._steps_named = {}, 0

    def _over_ranks(self, value: Tensor) -> Tensor:
        """The sum over the processes that share the training run."""
        if self.trainer.world_size == 1:
            return value
        gathered = self.all_gather(value)
        assert isinstance(gathered, Tensor)
        return gathered.sum()

    def check_finite(self) -> None:
        """Raises Diverged where a loss since the last entry of the learning curve was not finite, on any rank."""
        if not bool(torch.isfinite(self._over_ranks(self._nats))):
            raise Diverged(f"the training loss was not finite at or before step {self.step}")

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        self._begin_evaluation()

    def validation_step(self, batch: StreamBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("validation")

    def on_test_epoch_start(self) -> None:
        self._begin_evaluation()

    def test_step(self, batch: StreamBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    def _begin_evaluation(self) -> None:
        self._evaluated, self._scorer = None, self.new_scorer()
        self._memory: list[dict[str, float]] = []

    def _evaluate(self, batch: StreamBatch) -> None:
        assert self._scorer is not None
        state = enter(self.model, self._evaluated, batch)
        output = self.model(batch.inputs, state, edit_spans=self.edit_spans, caching=True)
        self._evaluated = output.state
        self._scorer.add(batch, output.y, token_nll(output, batch))
        named = {name: float(value) for name, value in output.statistics.items()}
        self._memory.append({**self.model.memory(output.state), **named})

    def _end_evaluation(self, split: str) -> None:
        """Keeps the scores, and on average over blocks what memory held and what the layers said of themselves."""
        assert self._scorer is not None
        self.scores = self._scorer.scores()
        self.statistics = {
            name: (max if name.startswith("max_") else fmean)([figures[name] for figures in self._memory])
            for name in self._memory[0]
        }
        self._evaluated = self._scorer = None
        if not math.isfinite(self.scores[0].value):
            raise Diverged(f"{self.scores[0].metric} on the {split} split is not finite after step {self.step}")
        if split == "validation":
            self.check_finite()
            self._write({self.scores[0].metric: self.scores[0].value, **self.statistics}, "validation")

    def _write(self, figures: dict[str, float], split: str = "train") -> None:
        if self.logger is not None and self.global_rank == 0:
            self.logger.log_metrics({f"{split}/{name}": value for name, value in figures.items()}, step=self.step)

    # Exact resume

    def resume_state(self) -> dict[str, Any]:
        """All that a run needs to go on exactly, as plain tensors and numbers; to be called on every rank."""
        carried = map_state(self.carried, lambda tensor: tensor.cpu()) if self.carried is not None else None
        mine = (self.position, carried)
        gathered: list[Any] = [mine]
        if self.trainer.world_size > 1:
            gathered = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, mine)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser().state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
            "position": [position for position, _ in gathered],
            "carried": [state for _, state in gathered],
            "nats": self._nats,
            "weight": self._weight,
            "named": dict(self._named),
            "steps_named": self._steps_named,
        }

    def load_resume_state(self, saved: dict[str, Any]) -> None:
        """Goes back to where `resume_state` was called. To be called before training starts, with as many processes."""
        self.model.load_state_dict(saved["model"])
        self.step = int(saved["step"])
        self._loaded = saved
