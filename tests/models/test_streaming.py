"""Every registered method, in every variant listed, reads a stream causally and the same in pieces as in blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.backbone import Backbone
from models.registry import METHODS, load_file
from models.state import batch_rows, join_rows, reset_rows, rows, state_bytes

toy = load_file(Path(__file__).with_name("toy_models.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")

T, VOCABULARY = 12, toy.VOCABULARY
# Settings small enough that every memory fills, moves on and is dropped within the test's stream.
VARIANTS: dict[str, list[dict[str, object]]] = {
    "full_attention": [{}, {"max_span": 29}, {"memory": "none"}, {"max_span": 7, "positions": "none"}],
    "transformer_xl": [
        {"memory_length": 17},
        {"memory_length": 17, "positions": "sinusoidal", "same_length": True},
        {"memory_length": 17, "positions": "sinusoidal", "same_length": True, "clamp_len": 9},
    ],
    "adaptive_span": [{"max_span": 41, "ramp": 5, "trim_step": 4, "initial_ratio": 0.3}],
    "compressive": [
        {"memory_length": 16, "compress_size": 24, "rate": 4, "compression": compression}
        for compression in ("mean", "max", "conv", "dilated_conv", "most_used")
    ],
    "memory_transformer": [
        {"slots": 7},
        {"slots": 20},
        {"slots": 15, "fading": "learned"},
        {"slots": 15, "memory": "recent"},
        {"slots": 15, "memory": "random"},
        {"slots": 15, "memory": "none"},
        {"slots": 5, "memory": "none"},
    ],
    "importance_sparse": [{"slots": 7}, {"slots": 20}, {"slots": 15, "fading": "learned"}],
    "performer": [{"features": 9}, {"kernel": "relu", "positions": "none"}, {"features": 9, "reset_every": 13}],
    "mlp_mixer": [{"window": 17, "hidden": 5}],
    "expire_span": [{"max_span": 40, "ramp": 6, "initial_fraction": 0.3}, {"max_span": 9, "ramp": 3, "noisy": True}],
}
CASES = [
    pytest.param(
        name,
        settings,
        pre_norm,
        impl,
        id=f"{name}-{i}-{'pre' if pre_norm else 'post'}{'' if impl == 'reference' else f'-{impl}'}",
        marks=methods.slow_unless(i == 0 and (impl == "reference" or not pre_norm)),
    )
    for name in METHODS.names()
    for i, settings in enumerate(VARIANTS.get(name, [{}]))
    for impl in METHODS.card(name)["impls"]
    # Where norms stand concerns the backbone, and caches: norms first, the keys of an empty slot are not zero. Each
    # method's first settings tell.
    for pre_norm in ((False, True) if i == 0 else (False,))
]


def make(name: str, settings: dict[str, object], pre_norm: bool, impl: str) -> Backbone:
    return toy.moved(toy.make(name, settings, T, head_dim=6, pre_norm=pre_norm, impl=impl))


def read(model: Backbone, tokens: Tensor, size: int = T, **extra: bool) -> tuple[Tensor, Tensor]:
    """Logits [B, n, V] and the summed auxiliary loss of a stream read in pieces of a size."""
    outputs, _ = toy.read(model, tokens, toy.blocks(tokens.shape[1], size), **extra)
    return toy.logits(outputs), torch.stack([output.aux_loss for output in outputs]).sum()


@pytest.mark.parametrize(("name", "settings", "pre_norm", "impl"), CASES)
def test_pieces_of_1_7_and_T_give_the_same_outputs_and_losses(
    name: str, settings: dict, pre_norm: bool, impl: str
) -> None:
    model = make(name, settings, pre_norm, impl)
    tokens = torch.randint(VOCABULARY, (2, 5 * T))
    with torch.no_grad():
        whole, loss = read(model, tokens)
        for size, caching in [(1, False), (7, False), (1, True), (7, True), (T, True)]:
            again, piecewise = read(model, tokens, size, caching=caching)
            torch.testing.assert_close(again, whole, rtol=0, atol=1e-9)
            torch.testing.assert_close(piecewise, loss, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("performer", {"features": 9}), ("mlp_mixer", {"window": 17}), ("performer", {"features": 9, "reset_every": 40})],
)
def test_blocks_that_are_computed_in_chunks_have_no_seam(name: str, settings: dict) -> None:
    model = toy.moved(toy.make(name, settings, block_length=150))
    tokens = torch.randint(VOCABULARY, (2, 300))
    with torch.no_grad():
        whole, small = (read(model, tokens, size)[0] for size in (150, 10))
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "settings", "pre_norm", "impl"), CASES)
def test_caches_that_a_call_does_not_carry_on_are_not_used_by_the_next(
    name: str, settings: dict, pre_norm: bool, impl: str
) -> None:
    model = make(name, settings, pre_norm, impl)
    tokens = torch.randint(VOCABULARY, (2, 4 * T))
    with torch.no_grad():
        whole, _ = read(model, tokens)
        state, found = model.init_state(2), []
        for number, piece in enumerate(torch.split(tokens, 5, dim=1)):
            output = model(piece, state, caching=number % 3 != 1)
            state = output.state
            found.append(output.y)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "settings", "pre_norm", "impl"), CASES)
def test_the_past_does_not_move_when_the_future_changes(name: str, settings: dict, pre_norm: bool, impl: str) -> None:
    model = make(name, settings, pre_norm, impl)
    tokens = torch.randint(VOCABULARY, (2, 4 * T))
    with torch.no_grad():
        before, _ = read(model, tokens)
        for moment in (0, 5, T, 3 * T - 1):
            changed = tokens.clone()
            other = 1 + torch.randint(VOCABULARY - 1, changed[:, moment:].shape)
            changed[:, moment:] = (changed[:, moment:] + other) % VOCABULARY
            after, _ = read(model, changed)
            torch.testing.assert_close(after[:, :moment], before[:, :moment], rtol=0, atol=1e-12)
            assert (after[:, moment] - before[:, moment]).abs().max() > 1e-6


@pytest.mark.parametrize(("name", "settings", "pre_norm", "impl"), CASES)
def test_a_row_reads_the_same_alone_reset_or_beside_others(
    name: str, settings: dict, pre_norm: bool, impl: str
) -> None:
    model = make(name, settings, pre_norm, impl)
    tokens = torch.randint(VOCABULARY, (3, 5 * T))
    for caching in (False, True):
        read_rows(model, tokens, caching)


@torch.no_grad()
def read_rows(model: Backbone, tokens: Tensor, caching: bool) -> None:
    """Reads three rows, one of which begins anew, and compares them with rows that are read by themselves."""
    state = model.init_state(3)
    for block in range(3):
        state = model(tokens[:, block * T : (block + 1) * T], state, caching=caching).state
    split = join_rows([rows(state, slice(0, 1)), rows(state, slice(1, 3))])
    state = reset_rows(split, model.init_state(3), torch.tensor([False, True, False]))
    together = model(tokens[:, 3 * T : 4 * T], state, caching=caching)
    together = model(tokens[:, 4 * T :], together.state, caching=caching).y
    fresh, _ = read(model, tokens[1:2, 3 * T :])
    kept, _ = read(model, tokens[2:3])
    torch.testing.assert_close(together[1:2], fresh[:, T:], rtol=0, atol=1e-9)
    torch.testing.assert_close(together[2:3], kept[:, 4 * T :], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "settings", "pre_norm", "impl"), CASES)
def test_state_is_detached_and_its_slots_and_bytes_are_reported(
    name: str, settings: dict, pre_norm: bool, impl: str
) -> None:
    model = make(name, settings, pre_norm, impl)
    output = model(torch.randint(VOCABULARY, (2, T)), model.init_state(2))
    for layer in output.state:
        assert batch_rows(layer) == 2
        assert not any(tensor.requires_grad for tensor in layer.values())
    figures = model.memory(output.state)
    assert 0 <= figures["slots_alive"] <= figures["slots_allocated"] <= figures["max_slots_allocated"]
    assert figures["max_state_bytes"] == max(state_bytes(layer) / 2 for layer in output.state)
