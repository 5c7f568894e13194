"""Acting and learning: the same probabilities step by step as in blocks, and advantages as their sums say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from models.backbone import Backbone, BackboneSettings, build
from models.registry import METHODS, load_file
from tasks import corridor, portal
from tasks.actor_critic import LearningSettings, Played, advantages, blocks, learn, play
from tasks.train_settings import TrainSettings

toy = load_file(Path(__file__).parents[1] / "models" / "toy_models.py")
methods = load_file(Path(__file__).parents[1] / "every_method.py")
T = 4
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "adaptive_span": {"max_span": 20, "ramp": 4, "initial_ratio": 0.4},
    "compressive": {"memory_length": 8, "compress_size": 8, "rate": 2},
    "expire_span": {"max_span": 20, "ramp": 4, "initial_fraction": 0.4},
    "transformer_xl": {"memory_length": 16},
}
CASES = [
    pytest.param(name, impl, marks=methods.slow_unless(name in methods.BY_DEFAULT), id=f"{name}-{impl}")
    for name in METHODS.names()
    for impl in METHODS.card(name)["impls"]
]
TASKS = [
    (corridor, corridor.Settings(min_length=3, max_length=5)),
    (portal, portal.Settings(rooms=2, size=3, doors="floor", horizon=25)),
]


def half(block: int) -> float:
    """The randomness of every block alike."""
    return 0.5


def model(task: ModuleType, settings: Any, method: str = "transformer_xl", impl: str = "reference") -> Backbone:
    torch.manual_seed(1)
    around = BackboneSettings(layers=2, width=16, feedforward=24, heads=2, pre_norm=True)
    chosen = METHODS.load(method).Settings(**METHOD_SETTINGS.get(method, {}))
    encoder, head = task.encoder(settings, 16), task.head(settings, 16)
    moved: Backbone = toy.moved(build(method, chosen, around, T, encoder, head, impl), by=0.1)
    return moved


@pytest.mark.parametrize(("method", "impl"), CASES)
@pytest.mark.parametrize(("task", "settings"), TASKS, ids=["corridor", "portal"])
def test_learning_reads_the_probabilities_that_acting_had(
    task: ModuleType, settings: Any, method: str, impl: str
) -> None:
    net = model(task, settings, method, impl)
    worlds = task.worlds(settings, 12, 0, torch.device("cpu"))
    played = play(net, worlds, 3, torch.Generator().manual_seed(0))
    assert played.action.shape[1] > 3 * T
    for part, output in blocks(net, played, half):
        again = output.y[..., :-1].log_softmax(-1).gather(-1, played.action[:, part, None])[..., 0].detach()
        torch.testing.assert_close(again, played.log_probability[:, part], rtol=0, atol=1e-9)
        torch.testing.assert_close(output.y[..., -1].detach(), played.value[:, part], rtol=0, atol=1e-9)


def test_a_world_acts_alike_whatever_is_beside_it() -> None:
    task, settings = TASKS[0]
    net = model(task, settings)
    many = play(net, task.worlds(settings, 6, 0, torch.device("cpu")), 3, None)
    one = play(net, task.worlds(settings, 1, 4, torch.device("cpu")), 3, None)
    steps = one.action.shape[1]
    assert torch.equal(one.action[0], many.action[4, :steps])
    assert not bool(many.alive[4, steps:].any())


@pytest.mark.slow
def test_actions_are_drawn_with_the_policys_probabilities() -> None:
    task, settings = TASKS[0]
    net = model(task, settings)
    assert isinstance(net.head, nn.Linear)
    net.head.bias.data[:4] = torch.tensor([1.5, 0.0, -1.0, 0.5])
    played = play(net, task.worlds(settings, 4000, 0, torch.device("cpu")), 3, torch.Generator().manual_seed(0))
    _, first = next(iter(blocks(net, played, half)))
    wanted = first.y[:, 0, :-1].detach().softmax(-1).mean(0)
    assert float(wanted.max() - wanted.min()) > 0.3
    found = torch.bincount(played.action[:, 0], minlength=4) / 4000
    torch.testing.assert_close(found.to(wanted), wanted, rtol=0, atol=0.03)


@pytest.mark.gpu
@pytest.mark.parametrize(("task", "settings"), TASKS, ids=["corridor", "portal"])
def test_an_episode_on_a_gpu_is_that_on_the_cpu(task: ModuleType, settings: Any) -> None:
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        net = model(task, settings).to(device)
        worlds = task.worlds(settings, 12, 0, device)
        found.append(play(net, worlds, 3, torch.Generator().manual_seed(0)))
    for name in ("observation", "action", "reward", "alive"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name).cpu())
    torch.testing.assert_close(found[0].log_probability, found[1].log_probability.cpu(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("task", "settings"), TASKS, ids=["corridor", "portal"])
def test_no_split_has_episodes_of_another(task: ModuleType, settings: Any) -> None:
    train = TrainSettings(batch_size=4, evaluation_batch_size=16)
    sources = [task.training_source(settings, train, seed, range(4)) for seed in (0, 1)]
    sources += [task.evaluation_source(settings, train, split) for split in ("validation", "test")]
    met = []
    for source in sources:
        position, seeds = source.start(), set()
        for _ in range(50):
            batch = source.read(position)
            seeds.add(batch.seed)
            position = batch.position
        met.append(seeds)
    assert len(set.union(*met)) == sum(len(seeds) for seeds in met)


def back(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def naive_advantage(played: Played, row: int, step: int, learning: LearningSettings) -> float:
    """Equation 16 of Schulman et al. 2016 for one step, summed up."""
    last = int(played.alive[row].sum())
    total = 0.0
    for k in range(step, last):
        following = float(played.value[row, k + 1]) if k + 1 < last else 0.0
        delta = float(played.reward[row, k]) + learning.discount * following - float(played.value[row, k])
        total += (learning.discount * learning.trace) ** (k - step) * delta
    return total


def test_advantages_are_the_sums_that_define_them() -> None:
    task, settings = TASKS[1]
    net, learning = model(task, settings), LearningSettings(0.9, 0.7, 0.5, 0.1)
    played = play(net, task.worlds(settings, 20, 0, torch.device("cpu")), 3, torch.Generator().manual_seed(0))
    assert len(set(played.alive.sum(1).tolist())) > 3, "some end before others"
    found = advantages(played, learning)
    for row, step in played.alive.nonzero().tolist():
        assert float(found[row, step]) == pytest.approx(naive_advantage(played, row, step, learning), abs=1e-9)


def test_gradients_are_those_of_the_loss_over_all_steps_at_once() -> None:
    task, settings = TASKS[0]
    net, learning = model(task, settings), LearningSettings(0.9, 0.7, 0.5, 0.1)
    played = play(net, task.worlds(settings, 8, 0, torch.device("cpu")), 3, torch.Generator().manual_seed(0))
    said = learn(net, played, learning, 0.03, half, back)
    by_blocks = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    advantage = advantages(played, learning)
    rows = []
    for part, output in blocks(net, played, half):
        logits, value, mask = output.y[..., :-1], output.y[..., -1], played.alive[:, part]
        policy = torch.distributions.Categorical(logits=logits)
        target = (advantage + played.value)[:, part]
        kept = advantage[played.alive]
        normal = (advantage[:, part] - kept.mean()) / (kept.std(unbiased=False) + 1e-8)
        chosen: torch.Tensor = policy.log_prob(played.action[:, part])  # type: ignore[no-untyped-call]
        entropy: torch.Tensor = policy.entropy()  # type: ignore[no-untyped-call]
        rows.append((-chosen * normal + 0.5 * (value - target) ** 2 - 0.03 * entropy)[mask])
    loss = torch.cat(rows).mean()
    back(loss)
    assert float(said["loss"]) == pytest.approx(float(loss.detach()))
    for ours, parameter in zip(by_blocks, net.parameters(), strict=True):
        if ours is not None or parameter.grad is not None:
            torch.testing.assert_close(ours, parameter.grad, rtol=1e-9, atol=1e-12)


def test_each_block_of_an_episode_has_noise_of_its_own() -> None:
    task, settings = TASKS[0]
    net = model(task, settings)
    played = play(net, task.worlds(settings, 2, 0, torch.device("cpu")), 3, None, whole=True)
    asked: list[int] = []

    def noted(block: int) -> float:
        asked.append(block)
        return 0.5

    assert len(list(blocks(net, played, noted))) == len(asked)
    assert asked == list(range(-(-played.action.shape[1] // T)))


@pytest.mark.parametrize("length", [1, 3, 8, 64])
def test_a_methods_own_loss_is_its_mean_over_tokens_in_blocks_of_any_length(length: int) -> None:
    task, settings = TASKS[0]
    around = BackboneSettings(layers=1, width=16, feedforward=24, heads=2, pre_norm=True)
    chosen = METHODS.load("adaptive_span").Settings(**METHOD_SETTINGS["adaptive_span"], coefficient=0.7)
    encoder, head = task.encoder(settings, 16), task.head(settings, 16)
    net = build("adaptive_span", chosen, around, length, encoder, head, "reference").double()
    played = play(net, task.worlds(settings, 8, 0, torch.device("cpu")), 3, torch.Generator().manual_seed(0))
    losses: list[float] = []
    said = learn(
        net, played, LearningSettings(0.9, 0.7, 0.0, 0.0), 0.0, half, lambda loss: losses.append(float(loss.detach()))
    )
    assert len(losses) == -(-played.action.shape[1] // length)
    assert sum(losses) - float(said["policy_loss"]) == pytest.approx(0.7 * float(said["mean_span"]))


def test_the_entropy_bonus_falls_to_a_tenth() -> None:
    learning = LearningSettings(0.9, 0.7, 0.5, 0.2)
    assert [learning.entropy_at(step, 11) for step in (0, 5, 10, 99)] == pytest.approx([0.2, 0.11, 0.02, 0.02])
