"""What the clock times of an acting task: an episode of every world and learning from it, or acting alone.

Weights stay as the checkpoint has them, see `workload`. Memory begins empty with every episode: there is none to fill.
All go on until the horizon, whether worlds have ended or not: how well a policy acts is not to make its step shorter.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor

from bench.cell import build_parts
from bench.clock.optimiser_step import OptimiserStep, weight_bytes
from bench.clock.workload import STILL, autocast
from bench.spec import CellSpec
from models.state import State
from tasks.actor_critic import LearningSettings, play
from tasks.episode_step import act_and_learn
from tasks.episodes import EpisodeBatch


class EpisodeTrainingStep:
    """A batch of training episodes and the optimiser's step, outside Lightning's Trainer.

    Args:
        spec: the cell.
        weights: the model's, from a checkpoint; None for those it is initialised with.
        device: where.
        whole: whether to go on until the horizon; else, as in training, until all worlds have ended.
    """

    def __init__(
        self, spec: CellSpec, weights: dict[str, Tensor] | None, device: torch.device, whole: bool = True
    ) -> None:
        parts = build_parts(replace(spec, train={**spec.train, "learning_rate": STILL, "schedule": "constant"}))
        if weights is not None:
            parts.model.load_state_dict(weights)
        self.train, self.seed, self.device, self.whole = parts.train, spec.seed, device, whole
        self.model = parts.model.to(device).train()
        self.update = OptimiserStep(self.model, parts.train, device, spec.precision == "16-mixed")
        self.autocast = functools.partial(autocast, device, spec.precision)
        self.learning: LearningSettings = parts.task_settings
        self.worlds = parts.task.worlds(parts.task_settings, parts.train.batch_size, 0, device)
        rows = range(parts.train.batch_size)
        self.source = parts.task.training_source(parts.task_settings, parts.train, spec.seed, rows)
        self.position = self.source.start()
        self.batch: EpisodeBatch | None = None
        self.state: State = []
        self.count = 0

    def fill(self) -> None:
        """Nothing: every episode begins with an empty memory."""

    def fetch(self) -> None:
        """The next batch of episodes."""
        self.batch = self.source.read(self.position)
        self.position = self.batch.position

    def step(self) -> None:
        """One training step, as `EpisodeModule.training_step` takes it."""
        assert self.batch is not None
        with self.autocast():
            played, _ = act_and_learn(
                self.model,
                self.worlds,
                self.learning,
                self.update.backward,
                episodes=self.batch.seed,
                seed=self.seed,
                step=self.count,
                of_steps=self.train.steps,
                whole=self.whole,
            )
        self.update.step()
        self.state = played.state
        self.count += 1

    def held(self) -> dict[str, float]:
        """What the memory held when the last world had ended, per world."""
        return self.model.memory(self.state)

    def static_bytes(self) -> int:
        """Of all weights, as many gradients, and the optimiser."""
        return self.update.static_bytes()


class EpisodeEvaluationStep:
    """A batch of validation episodes, acting alone.

    Args:
        spec, weights, device: as for `EpisodeTrainingStep`.
    """

    def __init__(self, spec: CellSpec, weights: dict[str, Tensor] | None, device: torch.device) -> None:
        parts = build_parts(spec)
        if weights is not None:
            parts.model.load_state_dict(weights)
        self.model = parts.model.to(device).eval()
        self.autocast = functools.partial(autocast, device, spec.precision)
        self.worlds = parts.task.worlds(parts.task_settings, parts.train.evaluation_batch_size, 0, device)
        self.source = parts.task.evaluation_source(parts.task_settings, parts.train, "validation")
        self.batch = self.source.read(self.source.start())
        self.state: State = []

    def fill(self) -> None:
        """Nothing."""

    def fetch(self) -> None:
        """The next batch; after the last the first again."""
        last = int(self.batch.position["read"]) == self.source.blocks
        self.batch = self.source.read(self.source.start() if last else self.batch.position)

    def step(self) -> None:
        """Acts until the horizon, with the likeliest actions."""
        with self.autocast():
            self.state = play(self.model, self.worlds, self.batch.seed, None, whole=True).state

    def held(self) -> dict[str, float]:
        """As for `EpisodeTrainingStep`."""
        return self.model.memory(self.state)

    def static_bytes(self) -> int:
        """Of all weights."""
        return weight_bytes(self.model)
