"""One training step on a batch of episodes, up to the gradients: what the Lightning module and the clock both run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.backbone import Backbone
from tasks.actor_critic import LearningSettings, Played, learn, play
from tasks.randomness import derive, seed_generators, uniform
from tasks.worlds import Worlds


def act_and_learn(
    model: Backbone,
    worlds: Worlds,
    learning: LearningSettings,
    backward: Callable[[Tensor], None],
    *,
    episodes: int,
    seed: int,
    step: int,
    of_steps: int,
    whole: bool = False,
) -> tuple[Played, dict[str, Tensor]]:
    """Acts through an episode of every world, and adds up the gradients of learning from it.

    Args:
        model: in training mode.
        worlds: who is acted in; they are begun anew.
        learning: discount, weights of the losses.
        backward: adds a scalar loss's gradients up.
        episodes: the seed that this step's episodes are drawn from.
        seed: the training's; with `step`, all other randomness comes from it.
        step: how many steps were taken before, of `of_steps`.
        whole: whether to go on until the horizon, so that all policies take as many steps.

    Returns:
        what was played, and what `learn` says.
    """
    seed_generators(derive(seed, "step", step, "rank", 0))
    draws = torch.Generator().manual_seed(derive(seed, "actions", step, "rank", 0))
    played = play(model, worlds, episodes, draws, whole=whole)
    entropy = learning.entropy_at(step, of_steps)

    def randomness(block: int) -> float:
        return uniform(seed, "step", step, "block", block)

    return played, learn(model, played, learning, entropy, randomness, backward)
