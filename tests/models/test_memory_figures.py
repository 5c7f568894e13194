"""The reported memory (slots alive, slots allocated, bytes per stream) and spans, counted from the equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.adaptive_span import RESERVE
from models.backbone import Backbone, Output
from models.expire_span import Method as ExpireSpan
from models.registry import load_file

toy = load_file(Path(__file__).with_name("toy_models.py"))

T, E, ROWS = 8, 16, 3
VECTOR, FLAG, AGE = E * 8, 1, 8  # bytes of a hidden state in float64, of a boolean, of an int64


def after(blocks: int, method: str, settings: dict[str, Any]) -> dict[str, float]:
    """The figures once every row has read so many blocks."""
    model: Backbone = toy.make(method, settings, T, width=E).double().eval()
    return model.memory(toy.read(model, torch.randint(toy.VOCABULARY, (ROWS, blocks * T)))[1])


def figures(alive: float, allocated: float, size: float) -> dict[str, float]:
    """What is reported when every layer holds the same."""
    each = {"slots_alive": alive, "slots_allocated": allocated, "state_bytes": size, "cache_bytes": 0}
    return each | {f"max_{name}": value for name, value in each.items()}


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_full_attention_holds_its_beginning_and_all_it_read(blocks: int) -> None:
    slots = T + blocks * T
    assert after(blocks, "full_attention", {}) == figures(slots, slots, slots * (VECTOR + FLAG))


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_full_attention_with_a_span_holds_so_many(blocks: int) -> None:
    assert after(blocks, "full_attention", {"max_span": 21}) == figures(21, 21, 21 * (VECTOR + FLAG))


def test_memory_none_holds_nothing_between_blocks() -> None:
    assert after(2, "full_attention", {"memory": "none"}) == figures(0, 0, 0)


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_transformer_xl_holds_its_length_from_the_start(blocks: int) -> None:
    assert after(blocks, "transformer_xl", {"memory_length": 21}) == figures(21, 21, 21 * VECTOR)


@pytest.mark.parametrize("blocks", [1, 5])
def test_chosen_memories_hold_their_slots_and_when_they_were_read(blocks: int) -> None:
    slot = VECTOR + AGE + FLAG
    assert after(blocks, "memory_transformer", {"slots": 21}) == figures(21, 21, 21 * slot + AGE + FLAG)
    two_readings = {"slots": 21, "reading": "two_pass"}
    assert after(blocks, "memory_transformer", two_readings) == figures(21, 21, 21 * slot + AGE + FLAG)
    assert after(blocks, "memory_transformer", {"memory": "none"}) == figures(0, 0, 0)
    of_all_heads = 2 * 21
    assert after(blocks, "importance_sparse", {"slots": 21}) == figures(
        of_all_heads, of_all_heads, of_all_heads * slot + AGE
    )


@pytest.mark.parametrize("blocks", [1, 5])
def test_sums_a_cell_and_a_window_are_held_whatever_was_read(blocks: int) -> None:
    features, heads, width, number = 9, 2, E // 2, 8
    sums = heads * features * (width + 1) * number
    assert after(blocks, "performer", {"features": features}) == figures(features, features, sums + 2 * AGE)
    assert after(blocks, "lstm", {"hidden": 5}) == figures(1, 1, 2 * 5 * number)
    assert after(blocks, "mlp_mixer", {"window": 9}) == figures(8, 8, 8 * VECTOR)


@pytest.mark.parametrize(("blocks", "slots"), [(1, 8), (2, 16), (5, 21)])
def test_sinusoidal_transformer_xl_grows_to_its_length(blocks: int, slots: int) -> None:
    settings = {"memory_length": 21, "positions": "sinusoidal"}
    assert after(blocks, "transformer_xl", settings) == figures(slots, slots, slots * (VECTOR + FLAG))


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_compressive_holds_recent_and_compressed_slots_all_alive(blocks: int) -> None:
    settings = {"memory_length": 16, "compress_size": 24, "rate": 4}
    assert after(blocks, "compressive", settings) == figures(22, 22, 22 * VECTOR)


def test_the_most_used_are_known_by_what_they_were_used() -> None:
    settings = {"memory_length": 16, "compress_size": 24, "rate": 4, "compression": "most_used"}
    usages = 2 * 8  # a state's share of attention up to the open block's start, and up to now, in float64
    assert after(5, "compressive", settings) == figures(22, 22, 22 * VECTOR + 16 * usages + AGE)


@pytest.mark.parametrize(
    ("method", "settings", "slots", "size"),
    [
        ("compressive", {"memory_length": 16, "compress_size": 24, "rate": 4}, 25, 25 * VECTOR),
        ("memory_transformer", {"slots": 21}, 24, 24 * VECTOR + 21 * (AGE + FLAG) + AGE + FLAG),
        ("mlp_mixer", {"window": 9}, 8, 8 * VECTOR),
    ],
)
def test_three_tokens_of_an_open_block_are_held_where_they_are_needed_as_they_are(
    method: str, settings: dict[str, Any], slots: int, size: int
) -> None:
    model = toy.make(method, settings, T, width=E).double().eval()
    state = toy.read(model, torch.randint(toy.VOCABULARY, (ROWS, 2 * T + 3)))[1]
    assert model.memory(state) == figures(slots, slots, size)


def test_adaptive_span_counts_what_some_head_can_see() -> None:
    settings = {"max_span": 200, "ramp": 4, "trim_step": 8}
    model: Backbone = toy.make("adaptive_span", settings, T, width=E).double().eval()
    ratios = torch.tensor([[0.125, 0.03125], [0.3125, 0.0]])
    alive, allocated = [], []
    for block, ratio in zip(model.layers(), ratios, strict=True):
        block.mixer.get_parameter("ratio").data.copy_(ratio)
        distance = torch.arange(1, 201)
        mask = ((ratio[:, None].double() * 200 + 1 - distance) / 4 + 1).clamp(0, 1)
        alive.append(int((mask > 0).any(0).sum()))
        window = 200 - (200 - alive[-1]) // 8 * 8
        allocated.append(window + RESERVE)
    assert alive == [29, 67]
    figures = model.memory(toy.read(model, torch.randint(toy.VOCABULARY, (ROWS, 20 * T)))[1])
    assert figures["slots_alive"] == sum(alive) / 2
    assert figures["max_slots_alive"] == max(alive)
    assert figures["slots_allocated"] == sum(allocated) / 2
    assert figures["max_slots_allocated"] == max(allocated)
    assert figures["state_bytes"] == sum(allocated) / 2 * VECTOR
    assert figures["max_state_bytes"] == max(allocated) * VECTOR


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("span", [2, 20])
def test_expire_span_holds_what_a_later_query_may_see_and_the_newest_block(blocks: int, span: int) -> None:
    ramp = 3
    settings = {"max_span": 100, "ramp": ramp, "initial_fraction": (span + 0.5) / 100}  # w = 0: all spans are equal
    # The next query stands 1 .. from each memory, the first zero vector (blocks + 1) T from it.
    alive = sum(span + 0.5 - age + ramp > 0 for age in range(1, (blocks + 1) * T + 1))
    allocated = max(alive, T)
    assert after(blocks, "expire_span", settings) == figures(alive, allocated, allocated * (VECTOR + AGE + FLAG))


def test_expire_span_counts_each_row_and_layer_by_itself() -> None:
    settings = {"max_span": 60, "ramp": 4, "initial_fraction": 0.2}
    model: Backbone = toy.moved(toy.make("expire_span", settings, T, width=E, layers=3))
    state = toy.read(model, torch.randint(toy.VOCABULARY, (ROWS, 9 * T)))[1]
    alive = []  # per layer and row
    for block, layer in zip(model.layers(), state, strict=True):
        assert isinstance(block.mixer, ExpireSpan)
        spans = spans_of(block.mixer, layer["memory"])
        ages = layer["age"]
        alive.append(
            [sum(bool(spans[r, s] - a + 4 > 0) for s, a in enumerate(ages[r].tolist()) if a) for r in range(3)]
        )
    figures = model.memory(state)
    per_layer = [sum(rows) / ROWS for rows in alive]
    allocated = [layer["memory"].shape[1] for layer in state]
    assert len(set(per_layer)) == 3
    assert figures["slots_alive"] == pytest.approx(sum(per_layer) / 3)
    assert figures["max_slots_alive"] == pytest.approx(max(per_layer))
    assert figures["slots_allocated"] == pytest.approx(sum(allocated) / 3)
    assert figures["max_slots_allocated"] == max(allocated)


def spans_of(mixer: ExpireSpan, h: Tensor) -> Tensor:
    """L sigmoid(w . h + b) of hidden states [B, S, E]."""
    weight, bias = mixer.predictor.weight[0], mixer.predictor.bias[0]
    return mixer.settings.max_span / (1 + (-(h @ weight + bias)).exp())


def mean_span_of_expire_span(model: Backbone, tokens: Tensor) -> tuple[Output, float]:
    """A block's output, and the mean span of its tokens over rows and layers, from what the layers were given."""
    given: list[Tensor] = []
    hooks = [block.mixer.register_forward_pre_hook(lambda _, args: given.append(args[0])) for block in model.layers()]
    output = model(tokens, model.init_state(tokens.shape[0]), randomness=0.01)
    for hook in hooks:
        hook.remove()
    spans = []
    for block, h in zip(model.layers(), given, strict=True):
        assert isinstance(block.mixer, ExpireSpan)
        spans.append(spans_of(block.mixer, block.norm1(h) if block.pre_norm else h).mean())
    return output, float(torch.stack(spans).mean().detach())


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("settings", [{}, {"noisy": True}, {"layer_drop": 0.999}], ids=str)
def test_the_mean_span_of_expire_span_is_that_of_the_spans_predicted(settings: dict[str, Any], pre_norm: bool) -> None:
    # Without the noise of training, and of layers that are dropped too.
    values = {"max_span": 60, "ramp": 4, "initial_fraction": 0.2, **settings}
    model: Backbone = toy.moved(toy.make("expire_span", values, T, width=E, pre_norm=pre_norm)).train()
    output, expected = mean_span_of_expire_span(model, torch.randint(toy.VOCABULARY, (ROWS, T)))
    assert float(output.statistics["mean_span"]) == pytest.approx(expected, rel=1e-9)


def test_the_mean_span_of_adaptive_span_is_the_mean_over_heads_and_layers() -> None:
    model: Backbone = toy.make("adaptive_span", {"max_span": 200, "ramp": 4}, T, width=E).double()
    for block, ratio in zip(model.layers(), ([0.125, 0.03125], [0.3125, 0.0]), strict=True):
        block.mixer.get_parameter("ratio").data.copy_(torch.tensor(ratio))
    output = model(torch.zeros(ROWS, T, dtype=torch.long), model.init_state(ROWS))
    assert float(output.statistics["mean_span"]) == pytest.approx(200 * 0.46875 / 4, rel=1e-12)
