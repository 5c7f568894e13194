"""Training and evaluation against a loop written out by hand in float64, and dropout site by site.

The loop reads every row alone, with a memory of its own that begins anew where the row does, so that it shares nothing
with the module's handling of states; u and the learning rates are computed here.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone, BackboneSettings, build
from models.registry import METHODS
from models.state import State, detach
from tasks import enwik8
from tasks.randomness import derive, uniform
from tasks.stream import StreamBatch, StreamData
from tasks.stream_module import StreamModule
from tasks.train_settings import TrainSettings

SEED = 3
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "full_attention": {"max_span": 20},
    "transformer_xl": {"memory_length": 12},
    "adaptive_span": {"max_span": 24, "ramp": 4, "coefficient": 0.02, "initial_ratio": 0.3, "trim_step": 4},
    "compressive": {"memory_length": 8, "compress_size": 16},
    "expire_span": {"max_span": 40, "ramp": 4, "coefficient": 0.02, "noisy": True, "layer_drop": 0.3},
}
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


def make_model(task: enwik8.Settings, method: str, dropout: float = 0.0) -> Backbone:
    torch.manual_seed(5)
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2, dropout=dropout)
    settings = METHODS.load(method).Settings(**METHOD_SETTINGS.get(method, {}))
    head = enwik8.head(task, backbone.width)
    return build(method, settings, backbone, TRAIN.block_length, enwik8.encoder(task, backbone.width), head).double()


@dataclass
class Trained:
    """What training gave: the model, and per step the mean nats and the learning rate."""

    model: Backbone
    losses: list[float]
    rates: list[float]


def trained_by_module(model: Backbone, task: enwik8.Settings, train: TrainSettings) -> tuple[Trained, StreamModule]:
    module = StreamModule(copy.deepcopy(model), train, lambda: enwik8.scorer(task, train), SEED)
    logged: list[dict[str, float]] = []
    module._write = lambda figures, split="train": logged.append(figures)  # type: ignore[method-assign]
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=-(-train.steps // train.validate_every),
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=StreamData(enwik8, task, train, SEED))
    steps = [figures for figures in logged if "loss" in figures]
    losses, rates = ([figures[name] for figures in steps] for name in ("loss", "learning_rate"))
    return Trained(module.model, losses, rates), module


def learning_rate(train: TrainSettings, step: int) -> float:
    """Of the step numbered from 0: linear warm-up, then half a cosine."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    share = (step - train.warmup_steps) / (train.steps - train.warmup_steps)
    return train.learning_rate * (1 + math.cos(math.pi * share)) / 2


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of every target, [B, T]."""
    return -logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


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


def trained_by_hand(model: Backbone, task: enwik8.Settings, train: TrainSettings) -> Trained:
    """Every row read alone; the auxiliary loss is the rows' mean."""
    model = copy.deepcopy(model).train()
    optimiser = OPTIMISERS[train.optimiser](model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay)
    source = enwik8.training_source(task, train, SEED, range(train.batch_size))
    position = source.start()
    memory: list[State] = [model.init_state(1) for _ in range(train.batch_size)]
    done = Trained(model, [], [])
    norms, resets = [], []
    for step in range(train.steps):
        batch = source.read(position)
        position = batch.position
        u = uniform(SEED, "step", step, "shared")
        summed = 0.0
        for row in range(train.batch_size):
            if batch.reset[row]:
                memory[row] = model.init_state(1)
            output = model(batch.inputs[row : row + 1], memory[row], u)
            memory[row] = detach(output.state)
            loss = nats(output.y, batch.targets[row : row + 1]).sum()
            (loss / batch.targets.numel() + output.aux_loss / train.batch_size).backward()
            summed += float(loss.detach())
        norms.append(update(model, optimiser, train, step))
        resets.append(int(batch.reset.sum()))
        done.losses.append(summed / batch.targets.numel())
        done.rates.append(learning_rate(train, step))
    if train.clip:
        assert max(norms) > train.clip, "some steps are to be clipped"
    assert any(0 < rows < train.batch_size for rows in resets), "some rows are to begin anew while others go on"
    return done


@torch.no_grad()
def bits_per_byte(model: Backbone, text: Tensor, train: TrainSettings) -> float:
    """A split read from beginning to end in its rows, each alone, without noise."""
    model.eval()
    targets = len(text) - 1
    per_row = -(-targets // train.evaluation_batch_size)
    summed = 0.0
    for begin in range(0, targets, per_row):
        end, memory = min(begin + per_row, targets), model.init_state(1)
        for at in range(begin, end, train.block_length):
            stop = min(at + train.block_length, end)
            output = model(text[None, at:stop].long(), memory)
            memory = output.state
            summed += float(nats(output.y, text[None, at + 1 : stop + 1].long()).sum())
    return summed / math.log(2) / targets


def assert_same_weights(model: Backbone, expected: Backbone) -> None:
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(model.state_dict()[name], tensor, rtol=0, atol=1e-9), name


def changed(**changes: Any) -> TrainSettings:
    return TrainSettings(**{**TRAIN.__dict__, **changes})


@pytest.mark.parametrize("method", METHODS.names())
def test_training_and_evaluation_are_what_a_loop_over_single_rows_gives(task: enwik8.Settings, method: str) -> None:
    model = make_model(task, method)
    expected = trained_by_hand(model, task, TRAIN)
    trained, module = trained_by_module(model, task, TRAIN)
    assert trained.losses == pytest.approx(expected.losses, abs=1e-9)
    assert trained.rates == pytest.approx(expected.rates, abs=1e-15)
    assert_same_weights(trained.model, expected.model)

    text = enwik8.part(task, "validation")
    assert module.scores[0].value == pytest.approx(bits_per_byte(expected.model, text, TRAIN), abs=1e-9)
    assert module.scores[0].n == len(text) - 1


@pytest.mark.parametrize(
    "changes", [{}, {"optimiser": "adamw"}, {"optimiser": "adagrad"}, {"clip": 0.0, "weight_decay": 0.0}], ids=str
)
def test_optimiser_steps_are_pytorchs(task: enwik8.Settings, changes: dict[str, Any]) -> None:
    train = changed(**changes)
    model = make_model(task, "transformer_xl")
    expected = trained_by_hand(model, task, train)
    trained, _ = trained_by_module(model, task, train)
    assert_same_weights(trained.model, expected.model)


@pytest.mark.parametrize("method", METHODS.names())
def test_dropout_is_drawn_anew_at_every_step_from_seed_and_step(task: enwik8.Settings, method: str) -> None:
    train = changed(steps=6, validate_every=6)  # no row begins anew in so few
    model = make_model(task, method, dropout=0.3)
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
    assert trained.losses == pytest.approx(losses, abs=1e-9)
    assert_same_weights(trained.model, expected)


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("site", ["attention", "feedforward"])
def test_dropout_acts_at_each_site_by_itself_and_in_training_only(
    task: enwik8.Settings, method: str, site: str
) -> None:
    model = make_model(task, method, dropout=0.3).eval()
    for block in model.layers():
        (block.mixer if site == "attention" else block.dropout).train()
    source = enwik8.training_source(task, TRAIN, SEED, range(TRAIN.batch_size))
    first = source.read(source.start())
    second = source.read(first.position)

    def outputs(seed: int) -> Tensor:
        torch.manual_seed(seed)
        state = model(first.inputs, model.init_state(TRAIN.batch_size), 0.9).state
        return model(second.inputs, state, 0.9).y

    assert not torch.allclose(outputs(0), outputs(1), rtol=0, atol=1e-3)
    assert torch.equal(outputs(0), outputs(0))
    model.eval()
    assert torch.equal(outputs(0), outputs(1))
