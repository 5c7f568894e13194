"""The fast impl of each method against its reference: outputs, losses, memory and all gradients, over whole streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbone import Backbone
from models.kernels import attention, work
from models.registry import METHODS, load_file
from models.state import reset_rows

toy = load_file(Path(__file__).with_name("toy_models.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")

T = 11
# Odd sizes. Adaptive-Span and Expire-Span divide by (sum + 1e-8) in the reference, by the sum in the fast impl: where
# little more than a ramp's end is seen, that shows, and more so in gradients.
CASES: list[tuple[str, dict[str, Any], float]] = [
    ("full_attention", {}, 1e-9),
    ("full_attention", {"max_span": 29}, 1e-9),
    ("full_attention", {"max_span": 5}, 1e-9),
    ("full_attention", {"memory": "none"}, 1e-9),
    ("full_attention", {"max_span": 29, "positions": "none"}, 1e-9),
    ("transformer_xl", {"memory_length": 23}, 1e-9),
    ("transformer_xl", {"memory_length": 3}, 1e-9),
    ("transformer_xl", {"memory_length": 23, "positions": "sinusoidal"}, 1e-9),
    ("transformer_xl", {"memory_length": 23, "positions": "sinusoidal", "clamp_len": 7}, 1e-9),
    ("transformer_xl", {"memory_length": 19, "positions": "sinusoidal", "same_length": True}, 1e-9),
    ("adaptive_span", {"max_span": 41, "ramp": 5, "trim_step": 4, "initial_ratio": 0.3}, 1e-6),
    ("adaptive_span", {"max_span": 9, "ramp": 20}, 1e-6),
    ("compressive", {"memory_length": 13, "compress_size": 33, "rate": 11}, 1e-9),
    ("compressive", {"memory_length": 11, "compress_size": 7, "rate": 1}, 1e-9),
    ("expire_span", {"max_span": 40, "ramp": 6, "initial_fraction": 0.3}, 1e-6),
    ("expire_span", {"max_span": 40, "ramp": 6, "initial_fraction": 0.99}, 1e-6),
    ("expire_span", {"max_span": 5, "ramp": 3, "noisy": True, "layer_drop": 0.4, "coefficient": 0.1}, 1e-6),
    ("expire_span", {"max_span": 60, "ramp": 9, "noisy": True, "pre_div": 3.0, "coefficient": 0.1}, 1e-6),
    ("compressive", {"memory_length": 13, "compress_size": 33, "rate": 11, "compression": "max"}, 1e-9),
    ("compressive", {"memory_length": 13, "compress_size": 22, "rate": 11, "compression": "conv"}, 1e-9),
    (
        "compressive",
        {"memory_length": 13, "compress_size": 22, "rate": 11, "compression": "conv", "compression_loss": "bptt"},
        1e-9,
    ),
    ("compressive", {"memory_length": 13, "compress_size": 22, "rate": 11, "compression": "most_used"}, 1e-9),
    ("memory_transformer", {"slots": 5}, 1e-9),
    ("memory_transformer", {"slots": 30, "fading": "learned"}, 1e-9),
    ("memory_transformer", {"slots": 17, "memory": "recent"}, 1e-9),
    ("memory_transformer", {"slots": 17, "memory": "random"}, 1e-9),
    ("memory_transformer", {"slots": 17, "memory": "none"}, 1e-9),
    ("importance_sparse", {"slots": 5}, 1e-9),
    ("importance_sparse", {"slots": 30, "fading": "learned"}, 1e-9),
]
IDS = [f"{method}-{number}" for number, (method, _, _) in enumerate(CASES)]
FIRST = [
    pytest.param(*case, id=name, marks=methods.slow_unless(case[0] not in [before[0] for before in CASES[:number]]))
    for number, (case, name) in enumerate(zip(CASES, IDS, strict=True))
]
"""By default the first settings of each method alone."""


def pair(method: str, settings: dict[str, Any], **backbone: Any) -> tuple[Backbone, Backbone]:
    """Reference and fast impl with the same weights, in float64 and training."""
    models = []
    for impl in ("reference", "fast"):
        models.append(toy.moved(toy.make(method, settings, T, head_dim=5, impl=impl, **backbone)).train())
    models[1].load_state_dict(models[0].state_dict())
    return models[0], models[1]


def losses(model: Backbone, tokens: Tensor, sizes: list[int], reset: int | None = None) -> tuple[list[Tensor], Tensor]:
    """What a stream gives, read in pieces: logits and auxiliary losses, and one number that depends on them all."""
    state, seen, begin = model.init_state(len(tokens)), [], 0
    weights = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for number, size in enumerate(sizes):
        output = model(tokens[:, begin : begin + size], state, randomness=0.2 + 0.6 * number / len(sizes))
        total = total + (output.y * torch.randn(output.y.shape, generator=weights).to(output.y)).sum()
        total = total + output.aux_loss
        seen += [output.y, output.aux_loss, *output.statistics.values()]
        state, begin = output.state, begin + size
        if number == reset:  # so that rows may differ in length
            begins = torch.tensor([row == 1 for row in range(len(tokens))])
            state = reset_rows(state, model.init_state(len(tokens)), begins)
    figures = model.memory(state)
    seen.append(torch.tensor([figures["slots_alive"], figures["max_slots_alive"]]))
    return seen, total


def compare(
    reference: Backbone, fast: Backbone, tokens: Tensor, sizes: list[int], limit: float, reset: int | None = None
) -> None:
    """Outputs and statistics within `limit`, each parameter's gradient within 20 times that share of its largest."""
    expected, total = losses(reference, tokens, sizes, reset)
    found, fast_total = losses(fast, tokens, sizes, reset)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=limit, atol=2 * limit)
    names = [name for name, _ in reference.named_parameters()]
    slopes = torch.autograd.grad(total, list(reference.parameters()), allow_unused=True, materialize_grads=True)
    others = torch.autograd.grad(fast_total, list(fast.parameters()), allow_unused=True, materialize_grads=True)
    for name, slope, other in zip(names, slopes, others, strict=True):
        scale = max(float(slope.abs().max()), 1e-3)
        torch.testing.assert_close(other, slope, rtol=0, atol=20 * limit * scale, msg=name)


@pytest.mark.parametrize(
    ("tile", "pre_norm"),
    [pytest.param(1 << 18, False, id="whole-post", marks=pytest.mark.slow), pytest.param(60, True, id="tiled-pre")],
)
@pytest.mark.parametrize(("method", "settings", "limit"), CASES, ids=IDS)
def test_the_fast_impl_gives_what_the_reference_gives(
    method: str, settings: dict[str, Any], limit: float, tile: int, pre_norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TILE", tile)
    monkeypatch.setattr(work, "FEWEST", 3)
    reference, fast = pair(method, settings, pre_norm=pre_norm)
    tokens = torch.randint(toy.VOCABULARY, (3, 6 * T))
    compare(reference, fast, tokens, [T] * 6, limit)


@pytest.mark.parametrize(("method", "settings", "limit"), FIRST)
def test_in_pieces_and_with_a_row_that_begins_anew(method: str, settings: dict[str, Any], limit: float) -> None:
    reference, fast = pair(method, {**settings, "layer_drop": 0.0} if "layer_drop" in settings else settings)
    tokens = torch.randint(toy.VOCABULARY, (3, 5 * T))
    compare(reference, fast, tokens, [7, 4, T, 5, 1, 2, 3, T, T], limit, reset=2)


@pytest.mark.parametrize(("method", "settings", "limit"), FIRST)
def test_in_single_precision(method: str, settings: dict[str, Any], limit: float) -> None:
    reference, fast = (model.float() for model in pair(method, settings))
    compare(reference, fast, torch.randint(toy.VOCABULARY, (2, 4 * T)), [T] * 4, 1e-5)


def test_every_method_with_a_fast_impl_is_compared() -> None:
    fast = {name for name in METHODS.names() if "fast" in METHODS.card(name)["impls"]}
    assert fast == {method for method, _, _ in CASES}


def test_edited_spans_are_carried_by_both() -> None:
    reference, fast = pair("expire_span", {"max_span": 30, "ramp": 4})

    def edited(layer: int, spans: Tensor) -> Tensor:
        return spans.roll(1, dims=1) * (1 + layer)

    tokens = torch.randint(toy.VOCABULARY, (2, 5 * T))
    with torch.no_grad():
        expected, _ = toy.read(reference.eval(), tokens, edit_spans=edited)
        found, _ = toy.read(fast.eval(), tokens, edit_spans=edited)
    torch.testing.assert_close(toy.logits(found), toy.logits(expected), rtol=0, atol=1e-6)


def test_a_row_with_few_slots_takes_little_beside_a_full_one() -> None:
    reference, fast = pair("expire_span", {"max_span": 200, "ramp": 4})
    for model in (reference, fast):
        for layer in range(2):
            model.get_parameter(f"blocks.{layer}.mixer.predictor.weight").data.zero_()
        model.eval()

    def edited(layer: int, spans: Tensor) -> Tensor:
        return torch.where(torch.arange(len(spans))[:, None] == 0, 200.0, 1.0).expand_as(spans).to(spans)

    tokens = torch.randint(toy.VOCABULARY, (4, 15 * T))
    with torch.no_grad():
        dense = reference.memory(toy.read(reference, tokens, edit_spans=edited)[1])
        ragged = fast.memory(toy.read(fast, tokens, edit_spans=edited)[1])
    assert ragged["slots_alive"] == dense["slots_alive"]
    assert dense["slots_allocated"] > 150
    assert ragged["slots_allocated"] == pytest.approx((dense["slots_allocated"] + 3 * T) / 4)
    assert ragged["state_bytes"] < 0.4 * dense["state_bytes"]


LONG: dict[str, dict[str, Any]] = {
    "full_attention": {"max_span": 800},
    "transformer_xl": {"memory_length": 800},
    "adaptive_span": {"max_span": 800, "initial_ratio": 1.0},
    "compressive": {"memory_length": 400, "compress_size": 4400, "rate": 11},
    "expire_span": {"max_span": 800, "initial_fraction": 0.99},
    "memory_transformer": {"slots": 800},
}


@pytest.mark.parametrize("method", LONG)
def test_nothing_of_the_size_of_the_scores_is_kept_for_the_backward(method: str) -> None:
    kept: dict[str, int] = {}
    for model, impl in zip(pair(method, LONG[method], layers=1), ("reference", "fast"), strict=True):
        tokens = torch.randint(toy.VOCABULARY, (2, 80 * T))
        with torch.no_grad():
            _, state = toy.read(model, tokens, randomness=0.9)
        slots = int(model.memory(state)["max_slots_allocated"])
        assert slots >= 800
        sizes: list[int] = []

        def noted(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
            model(tokens[:, :T], state, randomness=0.9)
        scores = 2 * model.sizes.heads * T * slots
        kept[impl] = sum(size >= scores for size in sizes)
    assert kept["reference"] > 0
    assert kept["fast"] == 0


DROPPING: list[tuple[str, dict[str, Any]]] = [
    ("full_attention", {"max_span": 15}),
    ("transformer_xl", {"memory_length": 15}),
    ("transformer_xl", {"memory_length": 15, "positions": "sinusoidal"}),
    ("adaptive_span", {"max_span": 15, "ramp": 5, "initial_ratio": 0.4}),
    ("compressive", {"memory_length": 11, "compress_size": 22, "rate": 11}),
    ("expire_span", {"max_span": 15, "ramp": 5, "initial_fraction": 0.5}),
    ("memory_transformer", {"slots": 15}),
    ("importance_sparse", {"slots": 15}),
]


@pytest.mark.parametrize(("method", "settings"), DROPPING, ids=[method for method, _ in DROPPING])
def test_dropped_weights_are_the_same_in_forward_and_backward(
    method: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TILE", 60)
    monkeypatch.setattr(work, "FEWEST", 3)
    _, model = pair(method, settings, layers=1, dropout=0.4)
    tokens = torch.randint(toy.VOCABULARY, (3, 3 * T))
    with torch.no_grad():
        _, state = toy.read(model, tokens, randomness=0.9)
    parameters = [parameter for _, parameter in sorted(model.named_parameters()) if parameter.requires_grad]

    def loss() -> Tensor:
        torch.manual_seed(5)
        return model(tokens[:, :T], state, randomness=0.9).y.square().sum()

    slopes = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    for parameter, slope in zip(parameters, slopes, strict=True):
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter.add_(step * direction)
            above = loss()
            parameter.sub_(2 * step * direction)
            below = loss()
            parameter.add_(step * direction)
        change = float((above - below) / (2 * step))
        assert change == pytest.approx(float((slope * direction).sum()), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("method", "settings", "limit"), FIRST)
def test_in_mixed_precision(method: str, settings: dict[str, Any], limit: float) -> None:
    _, model = pair(method, {**settings, "layer_drop": 0.0} if "layer_drop" in settings else settings)
    model.float()
    tokens = torch.randint(toy.VOCABULARY, (2, 4 * T))
    exact, slope = mixed(model, tokens, enabled=False)
    found, mixed_slope = mixed(model, tokens, enabled=True)
    scale = float(exact.std())
    assert float((found - exact).abs().mean()) < 0.05 * scale
    assert float((mixed_slope - slope).norm()) < 0.2 * float(slope.norm())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        cached = toy.logits(toy.read(model.eval(), tokens, caching=True)[0]).float()
    with torch.no_grad():
        uncached = toy.logits(toy.read(model, tokens)[0])
    assert float((cached - uncached).abs().mean()) < 0.05 * float(uncached.std())


def mixed(model: Backbone, tokens: Tensor, enabled: bool) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of a value projection, computed within autocast as a training step does."""
    weight = next(w for name, w in model.named_parameters() if "value" in name or "qkv" in name)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        outputs, _ = toy.read(model, tokens, randomness=0.9)
        logits = toy.logits(outputs)
        (slope,) = torch.autograd.grad(logits.float().square().mean(), weight)
    return logits.detach().float(), slope


def test_caches_are_refused_where_they_would_be_wrong() -> None:
    _, model = pair("transformer_xl", {"memory_length": 15})
    tokens, state = torch.randint(toy.VOCABULARY, (2, T)), model.init_state(2)
    with pytest.raises(ValueError, match="eval"), torch.no_grad():
        model(tokens, state, caching=True)
    with pytest.raises(ValueError, match="no_grad"):
        model.eval()(tokens, state, caching=True)


@pytest.mark.parametrize(("method", "settings", "limit"), FIRST)
def test_memory_is_projected_once_where_caches_are_carried(
    method: str, settings: dict[str, Any], limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = pair(method, settings, layers=1)
    tokens = torch.randint(toy.VOCABULARY, (2, 8 * T))
    with torch.no_grad():
        _, state = toy.read(model.eval(), tokens, caching=True)
    projected: list[int] = []
    original = attention.project

    def counted(h: Tensor, weight: Tensor) -> Tensor:
        projected.append(h.shape[:-1].numel())
        return original(h, weight)

    for module in (
        "models.heads",
        "models.transformer_xl",
        "models.compressive",
        "models.expire_span",
        "models.importance_sparse",
    ):
        monkeypatch.setattr(f"{module}.project", counted)
    with torch.no_grad():
        for step in range(3):
            state = model(tokens[:, step : step + 1], state, caching=True).state
    if settings.get("memory") != "none":
        assert projected == [2] * 6, "one token of two rows, keys and values, three times"
    assert model.memory(state)["cache_bytes"] > 0 or settings.get("memory") == "none"


@pytest.mark.parametrize(
    "pre_norm", [pytest.param(False, id="post"), pytest.param(True, id="pre", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("memory", ["importance", "recent", "random"])
@pytest.mark.parametrize(
    "slots", [5, pytest.param(T, marks=pytest.mark.slow), 3 * T, pytest.param(8 * T, marks=pytest.mark.slow)]
)
def test_a_second_reading_is_that_of_the_reference_in_pieces_and_with_caches(
    slots: int, memory: str, pre_norm: bool
) -> None:
    reference, fast = pair(
        "memory_transformer", {"slots": slots, "reading": "two_pass", "memory": memory}, pre_norm=pre_norm
    )
    tokens = torch.randint(toy.VOCABULARY, (2, 5 * T))
    found = []
    for model in (reference, fast):
        outputs, total = read_again(model, tokens, [T] * 5)
        slopes = torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)
        found.append([outputs, *slopes])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-8)
    for model in (reference, fast):
        for sizes in ([T] * 5, [1] * (5 * T), [7, 4] * 5):
            with torch.no_grad():
                again, _ = read_again(model.eval(), tokens, sizes, caching=True)
            torch.testing.assert_close(again, found[0][0].detach(), rtol=0, atol=1e-9)


def read_again(model: Backbone, tokens: Tensor, sizes: list[int], caching: bool = False) -> tuple[Tensor, Tensor]:
    """Logits of a document's second reading, in pieces, and a number that depends on them all."""
    with torch.no_grad():
        _, state = toy.read(model, tokens, caching=caching and not model.training)
    state, outputs, begin = model.again(state), [], 0
    for size in sizes:
        output = model(tokens[:, begin : begin + size], state, caching=caching)
        outputs.append(output.y)
        state, begin = output.state, begin + size
    found = torch.cat(outputs, dim=1)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    return found, (found * weights).sum()


def test_a_document_that_ends_within_a_block_is_not_read_again() -> None:
    _, model = pair("memory_transformer", {"slots": 5, "reading": "two_pass"})
    with torch.no_grad():
        _, state = toy.read(model, torch.randint(toy.VOCABULARY, (2, T + 1)))
    with pytest.raises(ValueError, match="end with a block"):
        model.again(state)
