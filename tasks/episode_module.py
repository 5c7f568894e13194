"""The Lightning module for acting tasks: acts through an episode of every world, then learns from its steps in blocks.

One training step is a batch of episodes and one step of the optimiser. Memory begins anew with each batch, so nothing
is carried from step to step. All worlds live in one process: episodes of unequal length in several would wait for each
other in vain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from models.backbone import Backbone
from models.state import State
from tasks.actor_critic import LearningSettings, play
from tasks.episode_step import act_and_learn
from tasks.episodes import EpisodeBatch, EpisodeScorer, EpisodeTask
from tasks.randomness import derive
from tasks.stream_step import exact
from tasks.task_module import TaskModule
from tasks.train_settings import TrainSettings
from tasks.worlds import Worlds, walked

_REFERENCES = 16
"""How many times as many episodes a scripted policy has in a test as the model."""


class EpisodeModule(TaskModule):
    """Trains a model on episodes.

    Args:
        model: the backbone with its method; its head gives action logits and a value.
        train: budget, batch, optimiser and schedule; ``batch_size`` worlds act side by side.
        learning: discount, weights of the losses.
        new_worlds: makes worlds, from how many, the first one's number, and the device.
        new_scorer: makes a fresh scorer for an evaluation.
        seed: all randomness of training comes from it.
    """

    def __init__(
        self,
        model: Backbone,
        train: TrainSettings,
        learning: LearningSettings,
        new_worlds: Callable[[int, int, torch.device], Worlds],
        new_scorer: Callable[[], EpisodeScorer],
        seed: int,
    ) -> None:
        super().__init__(model, train, new_scorer, seed)
        self.learning, self.new_worlds = learning, new_worlds
        self.whole = False  # whether training goes on until the horizon: the clock's steps are to be of one length
        self._acted: State = []
        self.alive = torch.zeros(0, 0, dtype=torch.bool)  # [B, H] of the last episodes that were evaluated

    def held(self) -> dict[str, float]:
        return self.model.memory(self._acted)

    def trained(self) -> tuple[str, int, str]:
        return "train_episodes", self.settings.steps * self.settings.batch_size, "episodes"

    def on_fit_start(self) -> None:
        """Raises RuntimeError where several processes share the training."""
        if self.trainer.world_size > 1:
            raise RuntimeError("an acting task is trained in one process: set trainer.devices to 1")

    def training_step(self, batch: EpisodeBatch, batch_idx: int) -> None:
        train = self.settings
        worlds = self.new_worlds(train.batch_size, 0, self.device)
        played, said = act_and_learn(
            self.model,
            worlds,
            self.learning,
            self.manual_backward,
            episodes=batch.seed,
            seed=self.seed,
            step=self.step,
            of_steps=train.steps,
            whole=self.whole,
        )
        self._acted = played.state
        self._update()
        loss = said.pop("loss").to(exact(self.device))
        said["reward"] = played.reward.sum(1).mean()
        self._stepped(batch.position, loss, torch.ones_like(loss), said)

    def evaluate(self, batch: EpisodeBatch) -> dict[str, float]:
        worlds = self.new_worlds(self.settings.evaluation_batch_size, 0, self.device)
        draws = None if batch.greedy else torch.Generator().manual_seed(derive(batch.seed, "actions"))
        played = play(self.model, worlds, batch.seed, draws, self.edit_spans)
        self.alive = played.alive
        self.scorer.add(worlds, "greedy" if batch.greedy else "sampled")
        if batch.greedy and self.trainer.testing:
            # The ceiling, what needs no memory, and luck alone: in the same worlds and in others, so that a line that
            # models are read against is known better than they are.
            worlds = self.new_worlds(_REFERENCES * worlds.count, 0, self.device)
            coins = torch.Generator().manual_seed(derive(batch.seed, "coins"))
            self.scorer.add(walked(worlds, batch.seed, lambda here: here.oracle(here.get_state())), "oracle")
            self.scorer.add(walked(worlds, batch.seed, lambda here: here.reactive(coins)), "reactive")
            self.scorer.add(walked(worlds, batch.seed, lambda here: here.chance(coins)), "chance")
        return {**self.model.memory(played.state), **{name: float(x) for name, x in played.statistics.items()}}


def module(task: EpisodeTask, settings: Any, model: Backbone, train: TrainSettings, seed: int) -> EpisodeModule:
    """The module of one task with its settings, which are those of the learning too; for `tasks.objectives`."""
    new_worlds, new_scorer = functools.partial(task.worlds, settings), lambda: task.scorer(settings, train)
    return EpisodeModule(model, train, settings, new_worlds, new_scorer, seed)
