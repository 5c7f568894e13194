"""Training and evaluation against a loop written out by hand in float64.

The loop reads every row alone, with a memory of its own that begins anew where the row does, so that it shares nothing
with the module's handling of states; u and the learning rates are computed here.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional

from models.backbone import Backbone
from models.registry import load_file
from models.state import State, detach
from tasks import enwik8
from tasks.randomness import derive, uniform
from tasks.stream import Position, Source, StreamBatch, StreamData, StreamTask
from tasks.stream_module import StreamModule
from tasks.train_settings import TrainSettings

toy = load_file(Path(__file__).with_name("toy_training.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")

SEED = 3
TASK = cast(StreamTask, enwik8)
# Every row of training is 90 bytes and begins anew after 10 or 11 blocks of 8; validation is 3 blocks long.
TRAIN = TrainSettings(
    steps=16,
    batch_size=8,
    block_length=8,
    learning_rate=2e-2,
    warmup_steps=3,
    weight_decay=0.1,
    clip=0.72,
    validate_every=16,
    log_every=1,
    evaluation_batch_size=2,
)
OPTIMISERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> enwik8.Settings:
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_bytes(enwik8.part(enwik8.Settings(), "train")[5000:5800].numpy().tobytes())
    return enwik8.Settings(path=str(path))


class WeightedSource:
    """The blocks of a source with random weights: fractions, some of them 0; in every fifth block they add up to less
    than 1, and every fifth has none."""

    blocks = None

    def __init__(self, source: Source) -> None:
        self.source, self.start = source, source.start

    def read(self, position: Position) -> StreamBatch:
        batch = self.source.read(position)
        begin = int(batch.position["byte"][0])
        draw = torch.Generator().manual_seed(begin)
        weights = 2 * torch.rand(batch.weights.shape, generator=draw, dtype=torch.double)
        weights = weights * (torch.rand(weights.shape, generator=draw) < 0.7)
        scale = {1: 0.6 / float(weights.sum()), 3: 0.0}.get(begin // TRAIN.block_length % 5, 1.0)
        return replace(batch, weights=scale * weights)


class Weighted:
    """The task enwik8, with random weights in training."""

    def __getattr__(self, name: str) -> Any:
        return getattr(enwik8, name)

    def training_source(self, settings: enwik8.Settings, train: TrainSettings, seed: int, rows: range) -> Source:
        return WeightedSource(enwik8.training_source(settings, train, seed, rows))


@dataclass
class Trained:
    """What training gave: the model, and for every step with targets what is logged of it."""

    model: Backbone
    logged: list[dict[str, float]]


def trained_by_module(
    model: Backbone, settings: enwik8.Settings, train: TrainSettings, task: StreamTask = TASK
) -> tuple[Trained, StreamModule]:
    module = StreamModule(copy.deepcopy(model), train, lambda: task.scorer(settings, train), SEED)
    logged = toy.fit(module, StreamData(task, settings, train, SEED))
    return Trained(module.model, [figures for figures in logged if "loss" in figures]), module


def learning_rate(train: TrainSettings, step: int) -> float:
    """Of the step numbered from 0: linear warm-up, then half a cosine."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    share = (step - train.warmup_steps) / (train.steps - train.warmup_steps)
    return train.learning_rate * (1 + math.cos(math.pi * share)) / 2


def update(model: Backbone, optimiser: torch.optim.Optimizer, train: TrainSettings, step: int) -> float:
    """Clips, steps, and gives the gradient's norm before clipping."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    if train.clip and norm > train.clip:
        for gradient in gradients:
            gradient.mul_(train.clip / (norm + 1e-6))  # the 1e-6 is PyTorch's
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(train, step)
    optimiser.step()
    optimiser.zero_grad()
    model.after_step()
    return norm


def trained_by_hand(
    model: Backbone, settings: enwik8.Settings, train: TrainSettings, task: StreamTask = TASK
) -> Trained:
    """Every row read alone; the auxiliary loss and the statistics are the rows' means."""
    model = copy.deepcopy(model).train()
    optimiser = OPTIMISERS[train.optimiser](model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay)
    source = task.training_source(settings, train, SEED, range(train.batch_size))
    position = source.start()
    memory: list[State] = [model.init_state(1) for _ in range(train.batch_size)]
    done = Trained(model, [])
    norms, resets, sums = [], [], []
    for step in range(train.steps):
        batch = source.read(position)
        position = batch.position
        u = uniform(SEED, "step", step, "shared")
        weights = float(batch.weights.sum())
        summed, statistics = 0.0, []
        for row in range(train.batch_size):
            if batch.reset[row]:
                memory[row] = model.init_state(1)
            output = model(batch.inputs[row : row + 1], memory[row], u)
            memory[row] = detach(output.state)
            loss = (toy.nats(output.y, batch.targets[row : row + 1]) * batch.weights[row]).sum()
            if weights > 0:
                (loss / max(weights, 1.0) + output.aux_loss / train.batch_size).backward()
            summed += float(loss.detach())
            statistics.append(output.statistics)
        resets.append(int(batch.reset.sum()))
        sums.append(weights)
        if weights > 0:
            norms.append(update(model, optimiser, train, step))
            means = {name: sum(float(row[name]) for row in statistics) / len(statistics) for name in statistics[0]}
            logged = {"loss": summed / weights, "learning_rate": learning_rate(train, step), **means}
            done.logged.append({"step": step + 1, **logged})
    if train.clip:
        assert max(norms) > train.clip, "some steps are to be clipped"
    assert any(0 < rows < train.batch_size for rows in resets), "some rows are to begin anew while others go on"
    if task is not TASK:
        assert {weights == 0 for weights in sums} == {0 < weights < 1 for weights in sums} == {True, False}
    return done


def assert_same_weights(model: Backbone, expected: Backbone) -> None:
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(model.state_dict()[name], tensor, rtol=0, atol=1e-9), name


def assert_same_logs(trained: Trained, expected: Trained) -> None:
    assert len(trained.logged) == len(expected.logged)
    for ours, theirs in zip(trained.logged, expected.logged, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def changed(**changes: Any) -> TrainSettings:
    return TrainSettings(**{**TRAIN.__dict__, **changes})


@pytest.mark.parametrize("method", methods.every_method("expire_span"))
def test_training_and_evaluation_are_what_a_loop_over_single_rows_gives(task: enwik8.Settings, method: str) -> None:
    model = toy.make_model(task, method)
    expected = trained_by_hand(model, task, TRAIN)
    trained, module = trained_by_module(model, task, TRAIN)
    assert_same_logs(trained, expected)
    assert_same_weights(trained.model, expected.model)

    text = enwik8.part(task, "validation")
    assert module.scores[0].value == pytest.approx(toy.bits_per_byte(expected.model, text, TRAIN), abs=1e-9)
    assert module.scores[0].n == len(text) - 1


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("method", methods.every_method("expire_span"))
def test_the_loss_is_the_weighted_sum_over_the_summed_weights_or_one(
    task: enwik8.Settings, method: str, accumulation: int
) -> None:
    train = changed(accumulation=accumulation)
    model = toy.make_model(task, method)
    weighted = cast(StreamTask, Weighted())
    expected = trained_by_hand(model, task, train, weighted)
    trained, _ = trained_by_module(model, task, train, weighted)
    assert 0 < len(expected.logged) < train.steps
    assert_same_logs(trained, expected)
    assert_same_weights(trained.model, expected.model)


@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "adamw"}, {"optimiser": "adagrad"}, {"clip": 0.0, "weight_decay": 0.0}], ids=str
)
def test_optimiser_steps_are_pytorchs(task: enwik8.Settings, changes: dict[str, Any]) -> None:
    train = changed(**changes)
    model = toy.make_model(task, "transformer_xl")
    expected = trained_by_hand(model, task, train)
    trained, _ = trained_by_module(model, task, train)
    assert_same_weights(trained.model, expected.model)


@pytest.mark.parametrize("method", methods.every_method("expire_span"))
def test_dropout_is_drawn_anew_at_every_step_from_seed_and_step(task: enwik8.Settings, method: str) -> None:
    train = changed(steps=6, validate_every=6)  # no row begins anew in so few
    model = toy.make_model(task, method, dropout=0.3)
    trained, _ = trained_by_module(model, task, train)

    expected = copy.deepcopy(model).train()
    optimiser = torch.optim.Adam(expected.parameters(), weight_decay=train.weight_decay)
    source = enwik8.training_source(task, train, SEED, range(train.batch_size))
    position, memory = source.start(), expected.init_state(train.batch_size)
    losses = []
    for step in range(train.steps):
        batch: StreamBatch = source.read(position)
        position = batch.position
        assert not batch.reset.any()
        torch.manual_seed(derive(SEED, "step", step, "rank", 0))
        output = expected(batch.inputs, memory, uniform(SEED, "step", step, "shared"))
        memory = detach(output.state)
        loss = functional.cross_entropy(output.y.flatten(0, 1), batch.targets.flatten())
        (loss + output.aux_loss).backward()
        update(expected, optimiser, train, step)
        losses.append(float(loss.detach()))
    assert [figures["loss"] for figures in trained.logged] == pytest.approx(losses, abs=1e-9)
    assert_same_weights(trained.model, expected)
