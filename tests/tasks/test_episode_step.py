"""An agent's training step: its randomness comes from (seed, step), and learning gets what that step is due."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbone import Backbone, BackboneSettings, build
from models.registry import METHODS, load_file
from tasks import corridor, episode_step
from tasks.actor_critic import LearningSettings
from tasks.episode_step import act_and_learn
from tasks.randomness import derive, uniform

toy = load_file(Path(__file__).parents[1] / "models" / "toy_models.py")
SETTINGS = corridor.Settings(min_length=4, max_length=6)
LEARNING = LearningSettings(entropy=0.2)


@pytest.fixture
def net() -> Backbone:
    around = BackboneSettings(layers=1, width=16, feedforward=24, heads=2)
    chosen = METHODS.load("transformer_xl").Settings(memory_length=8)
    encoder, head = corridor.encoder(SETTINGS, 16), corridor.head(SETTINGS, 16)
    made: Backbone = toy.moved(build("transformer_xl", chosen, around, 4, encoder, head, "reference"), by=0.1)
    return made


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def actions(net: Backbone, episodes: int, seed: int, step: int) -> Tensor:
    worlds = corridor.worlds(SETTINGS, 8, 0, torch.device("cpu"))
    played, _ = act_and_learn(
        net, worlds, LEARNING, backward, episodes=episodes, seed=seed, step=step, of_steps=11, whole=True
    )
    return played.action


def test_actions_are_drawn_anew_in_each_step_and_for_each_seed(net: Backbone) -> None:
    first = actions(net, 3, 0, 0)
    assert torch.equal(actions(net, 3, 0, 0), first)
    assert not torch.equal(actions(net, 3, 0, 1), first)
    assert not torch.equal(actions(net, 3, 1, 0), first)


def test_worlds_are_drawn_from_the_episodes_alone(net: Backbone) -> None:
    worlds = corridor.worlds(SETTINGS, 50, 0, torch.device("cpu"))
    lengths = []
    for episodes, seed, step in ((3, 0, 0), (3, 1, 1), (4, 0, 0)):
        act_and_learn(net, worlds, LEARNING, backward, episodes=episodes, seed=seed, step=step, of_steps=11)
        lengths.append(worlds.length.clone())
    assert torch.equal(lengths[0], lengths[1])
    assert not torch.equal(lengths[0], lengths[2])


def test_learning_gets_the_noise_and_the_entropy_bonus_of_its_step(
    net: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def noted(model: Backbone, played: Any, learning: LearningSettings, *rest: Any) -> dict[str, Tensor]:
        given.append((rest[0], (rest[1](0), rest[1](1)), torch.initial_seed()))
        return {}

    monkeypatch.setattr(episode_step, "learn", noted)
    for seed, step in ((0, 0), (0, 5), (1, 10)):
        actions(net, 3, seed, step)
    weights, noise, seeds = zip(*given, strict=True)
    assert weights == pytest.approx([0.2, 0.11, 0.02])
    assert list(noise) == [
        tuple(uniform(seed, "step", step, "block", block) for block in (0, 1))
        for seed, step in ((0, 0), (0, 5), (1, 10))
    ]
    assert len({each for pair in noise for each in pair}) == 6, "each block has its own"
    assert list(seeds) == [derive(seed, "step", step, "rank", 0) for seed, step in ((0, 0), (0, 5), (1, 10))]
