"""Sizes on demand: settings hold the context and the share alive asked for, and memory is full after `horizon`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from models.backbone import Backbone, BackboneSettings, build
from models.errors import Unsupported
from models.registry import METHODS
from models.state import State

T, VOCABULARY = 16, 11


def make(method: str, settings: Any) -> Backbone:
    torch.manual_seed(0)
    backbone = BackboneSettings(layers=1, width=16, feedforward=16, heads=2)
    return build(method, settings, backbone, T, nn.Embedding(VOCABULARY, 16), nn.Linear(16, VOCABULARY)).eval()


def read(model: Backbone, blocks: int, state: State | None = None, span: float | None = None) -> State:
    """The state after some blocks of two rows, with all spans set to `span`."""
    edit = None if span is None else lambda layer, spans: torch.full_like(spans, span)
    state = model.init_state(2) if state is None else state
    with torch.no_grad():
        for _ in range(blocks):
            state = model(torch.randint(VOCABULARY, (2, T)), state, edit_spans=edit).state
    return state


def longest(model: Backbone) -> float | None:
    """The longest span, where the method predicts spans."""
    mixer: Any = model.layers()[0].mixer
    return float(mixer.settings.max_span) if mixer.predicts_spans else None


@pytest.mark.parametrize(
    ("method", "slots", "alive"),
    [*[(method, slots, 1.0) for method in METHODS.names() for slots in (64, 200)], ("adaptive_span", 400, 0.25)],
)
def test_after_its_horizon_a_memory_no_longer_grows(method: str, slots: int, alive: float) -> None:
    model = make(method, METHODS.load(method).sized(slots, alive, T))
    blocks = math.ceil(model.layers()[0].mixer.horizon() / T)
    state = read(model, blocks, span=longest(model))
    full = model.memory(state)
    assert full["slots_allocated"] >= full["slots_alive"] > 0
    assert model.memory(read(model, 3, state, longest(model))) == full


@pytest.mark.parametrize("settings", [{"memory": "none"}, {"capacity": 48}, {"max_span": 40}])
def test_full_attentions_horizon_is_what_it_can_hold(settings: dict[str, Any]) -> None:
    module = METHODS.load("full_attention")
    horizon = make("full_attention", module.Settings(**settings)).layers()[0].mixer.horizon()
    assert horizon == {"memory": 0, "capacity": 48, "max_span": 40}[next(iter(settings))]


@pytest.mark.parametrize("method", ["full_attention", "transformer_xl", "expire_span"])
def test_a_size_is_the_number_of_slots_that_stay(method: str) -> None:
    model = make(method, METHODS.load(method).sized(100, 1.0, T))
    assert model.memory(read(model, 12, span=longest(model)))["slots_alive"] == 100


def test_compressive_reaches_as_far_back_as_was_asked_for_half_of_it_compressed() -> None:
    settings = METHODS.load("compressive").sized(128, 1.0, T)
    assert (settings.memory_length, settings.compress_size, settings.rate) == (64, 64, 4)
    assert make("compressive", settings).memory(read(make("compressive", settings), 9))["slots_alive"] == 64 + 16
    settings = METHODS.load("compressive").sized(23, 1.0, T)
    assert (settings.memory_length, settings.compress_size) == (16, 4), "whole compressed slots within the reach"


@pytest.mark.parametrize(
    ("method", "horizon"),
    [
        ("transformer_xl", 100),
        ("mlp_mixer", 100),
        ("compressive", 98),
        ("memory_transformer", 100 - T),
        ("importance_sparse", 100 - T),
        ("lstm", 1),
        ("performer", 1),
    ],
)
def test_a_memory_is_full_after_so_many_positions(method: str, horizon: int) -> None:
    assert make(method, METHODS.load(method).sized(100, 1.0, T)).layers()[0].mixer.horizon() == horizon


@pytest.mark.parametrize("alive", [1.0, 0.5, 0.25, 0.1])
def test_adaptive_spans_heads_see_the_share_that_was_asked_for(alive: float) -> None:
    model = make("adaptive_span", METHODS.load("adaptive_span").sized(400, alive, T))
    assert model.memory(read(model, 30))["slots_alive"] == 400 * alive


@pytest.mark.parametrize("method", sorted(set(METHODS.names()) - {"adaptive_span", "expire_span"}))
def test_a_method_that_forgets_nothing_within_its_reach_has_no_share(method: str) -> None:
    with pytest.raises(Unsupported, match=f"^{method} "):
        METHODS.load(method).sized(100, 0.5, T)


@pytest.mark.parametrize(
    ("method", "slots", "alive", "match"),
    [
        ("adaptive_span", 100, 0.1, "10 positions are not longer than the ramp of 32"),
        ("expire_span", 8, 1.0, "8 positions are not longer than the ramp"),
        ("memory_transformer", T, 1.0, "no memory beside a block of 16"),
        ("importance_sparse", T, 1.0, "no memory beside a block of 16"),
        ("compressive", 16, 1.0, "no room for compressed ones beside a block of 16"),
    ],
)
def test_sizes_that_a_method_cannot_have_are_refused(method: str, slots: int, alive: float, match: str) -> None:
    with pytest.raises(Unsupported, match=match):
        METHODS.load(method).sized(slots, alive, T)
