"""Expire-Span: what is dropped, what noise and layer drop do, and what the loss charges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.expire_span import Method, Settings
from models.mixer import Context, Sizes
from models.registry import load_file
from models.state import LayerState

toy = load_file(Path(__file__).with_name("toy_models.py"))
T, VOCABULARY = toy.T, toy.VOCABULARY


def make(**settings: Any) -> Backbone:
    values = {"max_span": 60, "ramp": 4, "initial_fraction": 0.2, **settings}
    model: Backbone = toy.make("expire_span", values, layers=3)
    for block in model.layers():
        nn.init.normal_(block.mixer.predictor.weight, std=0.4)  # type: ignore[union-attr,arg-type]
    return model.double()


def read(model: Backbone, tokens: Tensor, **extra: Any) -> tuple[Tensor, list[LayerState]]:
    outputs, state = toy.read(model, tokens, **extra)
    return toy.logits(outputs), state


def test_spans_begin_at_the_given_fraction_of_the_longest() -> None:
    sizes = Sizes(16, 2, 8, T, 2, 24, 0.0, False)
    layer = Method(Settings(max_span=200, initial_fraction=0.1), sizes)
    assert torch.allclose(layer.spans(torch.randn(3, 5, 16)), torch.full((3, 5), 20.0))


def test_dropping_what_expired_changes_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().eval()
    tokens = torch.randint(VOCABULARY, (3, 12 * T))
    with torch.no_grad():
        dropped, state = read(model, tokens)
        monkeypatch.setattr("models.backbone.pack", lambda state, stays: None)
        kept, everything = read(model, tokens)
    torch.testing.assert_close(dropped, kept, rtol=0, atol=1e-12)
    for layer, whole in zip(state, everything, strict=True):
        assert layer["memory"].shape[1] < whole["memory"].shape[1] / 2


def test_each_row_keeps_its_own_memories_and_the_newest_stand_at_the_right() -> None:
    model = make().eval()
    with torch.no_grad():
        _, state = read(model, torch.randint(VOCABULARY, (4, 10 * T)))
    for layer in state:
        age = layer["age"]
        assert torch.equal(age[:, -T:], torch.arange(T, 0, -1).expand(4, -1))
        real = age > 0
        assert len(set(real.sum(1).tolist())) > 1
        assert int(real.sum(1).max()) == age.shape[1]
        for row in age:
            held = row[row > 0]
            assert torch.equal(held, held.sort(descending=True).values)
        assert bool((layer["memory"][~real] == 0).all())
        assert not bool(layer["alive"][~real].any())


def test_alive_slots_are_those_that_a_later_query_may_still_see() -> None:
    model = make(initial_fraction=0.005, ramp=1).eval()
    with torch.no_grad():
        _, state = read(model, torch.randint(VOCABULARY, (2, 6 * T)))
    mixer = model.layers()[0].mixer
    assert isinstance(mixer, Method)
    layer = state[0]
    left = mixer.spans(layer["memory"]) - layer["age"] + 1  # e - age + R
    assert torch.equal(layer["alive"], (left > 0) & (layer["age"] > 0))
    alive, allocated = mixer.slots(layer)
    assert int(alive.max()) < allocated == T


def test_noise_shortens_all_layers_alike_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(noisy=True, max_span=100)
    tokens = torch.randint(VOCABULARY, (2, T))
    seen: list[float] = []
    shortened = Method.shortened

    def spy(self: Method, span: Tensor, context: Context) -> Tensor:
        result = shortened(self, span, context)
        seen.append(float(result.detach().max()))
        return result

    monkeypatch.setattr(Method, "shortened", spy)
    model.train()(tokens, model.init_state(2), randomness=0.1)
    assert seen == [pytest.approx(10.0)] * 3
    with pytest.raises(ValueError, match="randomness"):
        model(tokens, model.init_state(2))
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(tokens, model.init_state(2)).y, model(tokens, model.init_state(2), 0.01).y)


def test_a_dropped_layer_passes_its_input_on_and_its_memory_advances() -> None:
    model = make(layer_drop=0.5).train()
    tokens = torch.randint(VOCABULARY, (2, T))
    context = Context(nn.Identity(), randomness=0.3)
    mixers = [block.mixer for block in model.layers()]
    assert all(isinstance(mixer, Method) for mixer in mixers)
    draws = {
        u: [mixer.skips(Context(nn.Identity(), layer=n, randomness=u)) for n, mixer in enumerate(mixers)]  # type: ignore[operator]
        for u in torch.linspace(0.01, 0.99, 200).tolist()
    }
    share = sum(map(sum, draws.values())) / 600
    assert 0.4 < share < 0.6
    everywhere = next(u for u, skipped in draws.items() if all(skipped))
    output = model(tokens, model.init_state(2), randomness=everywhere)
    assert torch.equal(output.y, model.head(model.encoder(tokens)))
    assert torch.equal(output.state[2]["memory"][:, -T:], model.encoder(tokens).detach())
    assert not any(mixer.skips(context) for mixer in mixers if not mixer.train(False))  # type: ignore[operator]


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
def test_a_dropped_layers_spans_are_charged_all_the_same(pre_norm: bool) -> None:
    values = {"max_span": 30, "ramp": 6, "initial_fraction": 0.2, "coefficient": 0.5}
    dropping = toy.moved(toy.make("expire_span", {**values, "layer_drop": 0.999}, pre_norm=pre_norm)).train()
    never = toy.moved(toy.make("expire_span", values, pre_norm=pre_norm)).train()
    tokens = torch.randint(VOCABULARY, (2, T))
    output = dropping(tokens, dropping.init_state(2), randomness=0.3)
    assert torch.equal(output.y, dropping.head(dropping.norm(dropping.encoder(tokens)))), "all layers are to be dropped"
    assert float(output.aux_loss.detach()) < -1e-3
    output.aux_loss.backward()
    for number, block in enumerate(dropping.layers()):
        # A dropped layer passes its input on, so each layer of the other model is given the embedding, alone.
        norm = never.layers()[number].norm1 if pre_norm else nn.Identity()
        context = Context(norm, layer=number, shared=never.shared, randomness=0.3)
        other = never.layers()[number].mixer
        mixed = other(never.encoder(tokens), other.init_state(2), context)
        assert mixed.aux_loss is not None
        mixed.aux_loss.backward()
        for name in ("predictor.weight", "predictor.bias"):
            expected = other.get_parameter(name).grad
            assert expected is not None
            assert float(expected.abs().max()) > 1e-4
            torch.testing.assert_close(block.mixer.get_parameter(name).grad, expected, rtol=0, atol=1e-12)


def test_the_loss_charges_pairs_on_the_ramp_and_nothing_else() -> None:
    sizes = Sizes(16, 2, 8, T, 2, 24, 0.0, False)
    layer = Method(Settings(max_span=40, ramp=6, coefficient=0.5, initial_fraction=0.3), sizes).double()
    nn.init.normal_(layer.predictor.weight, std=0.3)
    shared = Method.build_shared(layer.settings, sizes).double()
    x = torch.randn(2, T, 16, dtype=torch.double)
    state = layer.init_state(2)
    history = torch.cat([state["memory"], x], dim=1)
    spans = layer.spans(history).detach()
    charged = 0.0
    for row in range(2):
        for t in range(T):
            for i in range(T + t):  # T zero vectors, then the block's earlier tokens
                left = float(spans[row, i]) - (t + T - i)
                if -6 < left < 0:
                    charged += left
    mixed = layer(x, state, Context(nn.Identity(), shared=shared))
    assert mixed.aux_loss is not None
    assert float(mixed.aux_loss.detach()) == pytest.approx(0.5 * charged / 2 / (6 * T), rel=1e-9)
    assert charged < 0


def test_edited_spans_stay_with_their_memories() -> None:
    model = make().eval()
    tokens = torch.randint(VOCABULARY, (2, 8 * T))
    with torch.no_grad():
        plain, _ = read(model, tokens)
        same, _ = read(model, tokens, edit_spans=lambda layer, spans: spans)
        torch.testing.assert_close(same, plain, rtol=0, atol=1e-12)
        _, cut = read(model, tokens, edit_spans=lambda layer, spans: spans.clamp(max=3.0))
        assert all(layer["memory"].shape[1] <= 2 * T for layer in cut)
        endless, held = read(model, tokens, edit_spans=lambda layer, spans: torch.full_like(spans, math.inf))
        assert all(layer["memory"].shape[1] >= 8 * T for layer in held)
        assert not torch.allclose(endless, plain)


def test_spans_are_counted_in_float32_under_autocast() -> None:
    sizes = Sizes(16, 2, 8, T, 2, 24, 0.0, False)
    torch.manual_seed(0)
    layer = Method(Settings(max_span=16384, ramp=128, coefficient=1.0, initial_fraction=0.02), sizes)
    nn.init.normal_(layer.predictor.weight, std=0.5)
    shared = Method.build_shared(layer.settings, sizes)
    memory = torch.randn(2, 2000, 16)
    state = {
        "memory": memory,
        "age": torch.arange(2000, 0, -1).expand(2, -1),
        "alive": torch.ones(2, 2000, dtype=torch.bool),
    }
    x, context = torch.randn(2, T, 16), Context(nn.Identity(), shared=shared)
    exact = layer(x, state, context)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, state, context)
    assert exact.aux_loss is not None
    assert mixed.aux_loss is not None
    assert float(mixed.aux_loss.detach()) == pytest.approx(float(exact.aux_loss.detach()), rel=1e-5)
    assert torch.equal(mixed.state["alive"], exact.state["alive"])
    assert torch.equal(mixed.state["age"], exact.state["age"])
    assert mixed.state["memory"].dtype == torch.float32
