"""Which states a memory keeps: the greatest, in order; or any, each as likely as another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.choice import greatest, scrambled
from models.gapped import terms
from models.mixer import Context
from models.registry import load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))

T = 8


def test_the_greatest_stay_in_order_and_of_equal_ones_the_later() -> None:
    worth = torch.tensor([[2.0, 5.0, 2.0, 1.0, 2.0], [float("-inf"), float("-inf"), 0.0, -1.0, 3.0]])
    assert greatest(worth, 3).tolist() == [[1, 2, 4], [2, 3, 4]]
    assert greatest(worth[1:], 4).tolist() == [[1, 2, 3, 4]], "of what is worth nothing the latest"


def test_terms_are_those_of_distances_from_1_to_p_wherever_a_slot_stands() -> None:
    query, p = torch.ones(1, 1, 1, 1), torch.tensor([[30.0, 20.0, 10.0]])  # of distances 3, 2, 1
    time = torch.tensor([4, 6, 8, 7, 9, 10, 9]).view(1, 1, 7)  # six slots of memory; the query's own is the last
    assert terms(query, p, time, 6, 6).flatten().tolist() == [0, 30, 10, 20, 0, 0]
    assert terms(query, p, time, 6, 3).flatten().tolist() == [20, 0, 0]


def test_the_mean_age_is_that_of_what_was_read_and_kept() -> None:
    model = toy.make("memory_transformer", {"slots": 12, "memory": "recent"}, T)
    outputs, state = toy.read(model, torch.randint(toy.VOCABULARY, (2, 4 * T)))
    ages = [float(output.statistics["mean_age"]) for output in outputs]
    assert ages == [0, 4.5, 6.5, 6.5], "nothing; 1 to 8 tokens; 1 to 12"
    each_head = toy.make("importance_sparse", {"slots": 12}, T)
    outputs, state = toy.read(each_head, torch.randint(toy.VOCABULARY, (2, 4 * T)))
    outputs = [each_head(torch.randint(toy.VOCABULARY, (2, T)), state)]
    kept_at = torch.stack([layer["time"] for layer in state]).double()
    assert float(outputs[0].statistics["mean_age"]) == pytest.approx(float(4 * T - kept_at.mean()))
    twice = toy.make("memory_transformer", {"slots": 12, "reading": "two_pass"}, T)
    assert "mean_age" not in toy.read(twice, torch.randint(toy.VOCABULARY, (2, T)))[0][0].statistics


def test_scrambled_numbers_are_uniform_and_change_with_each_of_their_parts() -> None:
    numbers = torch.arange(20_000)
    for made in (scrambled(numbers, 7), scrambled(7, numbers), scrambled(numbers, -numbers)):
        assert int(made.min()) >= 0
        shares = torch.histc(made.double() / 2**62, bins=10, min=0, max=1) / len(numbers)
        assert float((shares - 0.1).abs().max()) < 0.01
        order = made.argsort().double()
        together = torch.corrcoef(torch.stack([order[:-1], order[1:]]))[0, 1]
        assert abs(float(together)) < 0.03


def kept(seed: int, layer: int, rows: int = 64, blocks: int = 6) -> list[list[int]]:
    """The times that each row's memory of 4 slots has after some blocks of random hidden states."""
    torch.manual_seed(seed)
    model = toy.make("memory_transformer", {"slots": 4, "memory": "random"}, T, layers=1)
    mixer = model.layers()[0].mixer
    mixer.seed.fill_(seed)
    state = mixer.init_state(rows)
    source = torch.Generator().manual_seed(5)
    for _ in range(blocks):
        x = torch.randn(rows, T, 16, generator=source)
        state = mixer(x, state, Context(norm=nn.Identity(), layer=layer, shared=model.shared)).state
    times: list[list[int]] = state["time"].tolist()
    return times


def test_any_states_are_others_in_each_row_layer_and_model() -> None:
    first = kept(0, 0)
    assert len({tuple(row) for row in first}) > 50
    assert first == kept(0, 0)
    assert first != kept(0, 1)
    assert first != kept(1, 0)


def test_any_states_are_as_many_of_the_last_block_as_chance_would_keep() -> None:
    times = torch.tensor([row for seed in range(20) for row in kept(seed, 0)])
    newest = (times >= 5 * T).double().mean()  # 8 of the 12 candidates of the last choice
    assert abs(float(newest) - T / (T + 4)) < 0.02
