"""The formulas of cost and state against what PyTorch counts in the reference, and what a state really holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.cost import NotAFormula, flops_per_token, state_numbers, value
from models.mixer import Context
from models.registry import METHODS, load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))

T, B = 8, 2
CASES: list[tuple[str, dict[str, Any]]] = [
    ("full_attention", {"max_span": 24}),
    ("full_attention", {"max_span": 24, "positions": "none"}),
    ("full_attention", {"max_span": 6, "memory": "none"}),
    ("full_attention", {}),
    ("transformer_xl", {"memory_length": 24}),
    ("transformer_xl", {"memory_length": 24, "positions": "sinusoidal"}),
    ("adaptive_span", {"max_span": 16, "ramp": 4, "initial_ratio": 1.0}),
    *(
        ("compressive", {"memory_length": 16, "compress_size": 12, "rate": 4, "compression": how})
        for how in ("mean", "max", "conv", "dilated_conv", "most_used")
    ),
    ("expire_span", {"max_span": 20, "ramp": 4, "initial_fraction": 0.5}),
    ("memory_transformer", {"slots": 12}),
    ("memory_transformer", {"slots": 12, "memory": "none"}),
    ("importance_sparse", {"slots": 12}),
    ("performer", {}),
    ("performer", {"features": 9}),
    ("lstm", {}),
    ("lstm", {"hidden": 7}),
    ("mlp_mixer", {"window": 9, "hidden": 5}),
]


def filled(name: str, settings: dict[str, Any], length: int = T) -> tuple[Any, Any, Context, dict[str, int]]:
    """A layer, its state after some blocks of a length, what it is called with, and its sizes."""
    model = toy.make(name, settings, length, width=12, heads=3, head_dim=6).eval()
    block = model.layers()[0]
    numbers = block.mixer.numbers()
    context = Context(
        norm=nn.Identity(), shared=model.shared, numbers=None if numbers is None else tuple(numbers.tolist())
    )
    state = block.mixer.init_state(B)
    with torch.no_grad():
        for _ in range(6):
            state = block.mixer(torch.randn(B, length, 12), state, context).state
    return block.mixer, state, context, {"E": 12, "H": 3, "D": 6, "T": length, "F": 24, "B": B}


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_the_cost_is_what_pytorch_counts(name: str, settings: dict[str, Any]) -> None:
    mixer, state, context, sizes = filled(name, settings)
    fields = vars(METHODS.load(name).Settings(**settings))
    _, slots = mixer.slots(state)
    stated = flops_per_token(METHODS.card(name), fields, sizes, slots)
    assert stated is not None
    if name == "lstm":  # of which the counter knows nothing: four gates of inputs and outputs, then the projection
        hidden = mixer.hidden
        assert stated == 2 * (4 * hidden * 12 + 4 * hidden * hidden + hidden * 12)
        return
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        mixer(torch.randn(B, T, 12), state, context)
    counted = counter.get_total_flops() / (B * T)
    if name == "full_attention":  # PyTorch's attention on a CPU counts as nothing
        keys = (6 if settings.get("memory") == "none" else slots) + T
        counted += 4 * 3 * 6 * keys
    assert stated == pytest.approx(counted, rel=1e-6)


@pytest.mark.parametrize("length", [64, 96, 150])
@pytest.mark.parametrize(("name", "settings"), [("performer", {"features": 9}), ("mlp_mixer", {"window": 9})])
def test_chunks_cost_what_pytorch_counts_in_blocks_of_any_length(
    name: str, settings: dict[str, Any], length: int
) -> None:
    mixer, state, context, sizes = filled(name, settings, length)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        mixer(torch.randn(B, length, 12), state, context)
    fields = vars(METHODS.load(name).Settings(**settings))
    stated = flops_per_token(METHODS.card(name), fields, sizes, 9)
    assert stated == pytest.approx(counter.get_total_flops() / (B * length), rel=1e-9)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_the_state_is_what_is_carried(name: str, settings: dict[str, Any]) -> None:
    mixer, state, _, sizes = filled(name, settings)
    fields = vars(METHODS.load(name).Settings(**settings))
    _, slots = mixer.slots(state)
    numbers = sum(tensor.numel() for tensor in state.values()) / B
    assert state_numbers(METHODS.card(name), fields, sizes, slots) == numbers


@pytest.mark.parametrize(
    "formula", ["E +", "unknown * 2", "E ** E ** E if open('x') else 1", "(lambda: 1)()", "E.real"]
)
def test_what_is_no_arithmetic_is_refused(formula: str) -> None:
    with pytest.raises(NotAFormula):
        value(formula, {"E": 3})
