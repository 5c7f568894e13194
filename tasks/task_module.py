"""What the Lightning modules of all tasks share: optimiser, clipping, learning curve, evaluation, and exact resume.

A step's randomness comes from (seed, step). What a run would need to go on exactly is `resume_state`: weights,
optimiser, the position consumed, what is carried from step to step, the step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from models.backbone import Backbone
from models.state import State, map_state
from tasks.stream import Position, Score
from tasks.train_settings import TrainSettings, build_optimiser


class Diverged(RuntimeError):
    """The loss is no longer finite."""


class TaskModule(pl.LightningModule, ABC):
    """Trains a model and scores whole splits; what a step and an evaluated batch are, its subclasses say.

    Args:
        model: the backbone with its method.
        train: budget, batch, optimiser and schedule.
        new_scorer: makes what adds up an evaluation, with a method ``scores()``.
        seed: all randomness of training comes from it.
    """

    def __init__(self, model: Backbone, train: TrainSettings, new_scorer: Callable[[], Any], seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False  # one update per group of rows, not per batch that Lightning counts
        self.model, self.settings, self.seed = model, train, seed
        self.edit_spans: Callable[[int, Tensor], Tensor] | None = None  # evaluation's "what if", see Backbone.forward
        self.step = 0
        self.position: Position | None = None
        self.carried: State | None = None
        self.new_scorer, self.scorer = new_scorer, cast(Any, None)
        self.scores: list[Score] = []
        self.statistics: dict[str, float] = {}
        self._of_batches: list[dict[str, float]] = []
        self._loaded: dict[str, Any] | None = None
        self._nats = torch.zeros((), dtype=torch.float64)
        self._weight = torch.zeros((), dtype=torch.float64)
        self._named: dict[str, Tensor] = {}
        self._steps_named = 0

    @abstractmethod
    def trained(self) -> tuple[str, int, str]:
        """What a whole training learns from: a name, how much, and in what."""

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
        self.carried = None if carried is None else map_state(carried, lambda tensor: tensor.to(self.device))
        self._loaded = None

    def consumed(self) -> Position | None:
        """Where this process's training stream goes on; None at its start."""
        return self.position if self._loaded is None else cast(Position, self._loaded["position"][self.global_rank])

    def _stepped(self, position: Position, nats: Tensor, weight: Tensor, named: Mapping[str, Tensor]) -> None:
        """Notes a training step: what was consumed, the loss as a sum and what it is divided by, named figures."""
        self.position = position
        self.step += 1
        self._nats = self._nats.to(nats) + nats
        self._weight = self._weight.to(nats) + weight.to(nats)
        self._named = {name: self._named.get(name, 0) + value for name, value in named.items()}
        self._steps_named += 1
        if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
            self._log_training()

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

    def _write(self, figures: dict[str, float], split: str = "train") -> None:
        if self.logger is not None and self.global_rank == 0:
            self.logger.log_metrics({f"{split}/{name}": value for name, value in figures.items()}, step=self.step)

    def held(self) -> dict[str, float]:
        """What memory holds after a training step, per row: `Backbone.memory`."""
        assert self.carried is not None
        return self.model.memory(self.carried)

    # Evaluation

    def new_evaluation(self) -> None:
        """Begins an evaluation."""
        self.scorer, self._of_batches = self.new_scorer(), []

    @abstractmethod
    def evaluate(self, batch: Any) -> dict[str, float]:
        """Scores a batch; returns what memory holds after it, and what the layers say of themselves."""

    def on_validation_epoch_start(self) -> None:
        self.new_evaluation()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._of_batches.append(self.evaluate(batch))

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("validation")
        self.check_finite()
        self._write({self.scores[0].metric: self.scores[0].value, **self.statistics}, "validation")

    def on_test_epoch_start(self) -> None:
        self.new_evaluation()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._of_batches.append(self.evaluate(batch))

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    def _end_evaluation(self, split: str) -> None:
        """Keeps the scores, and figures of the batches: their greatest where so named, else their mean."""
        self.scores = self.scorer.scores()
        self.statistics = {
            name: (max if name.startswith("max_") else fmean)([figures[name] for figures in self._of_batches])
            for name in self._of_batches[0]
        }
        self.scorer, self._of_batches = None, []
        if not math.isfinite(self.scores[0].value):
            raise Diverged(f"{self.scores[0].metric} on the {split} split is not finite after step {self.step}")

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
