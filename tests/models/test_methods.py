"""What holds for each method beyond streaming: sizes, trimming, capacity, and settings that cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.adaptive_span import RESERVE
from models.adaptive_span import Method as AdaptiveSpan
from models.backbone import Backbone, BackboneSettings, build
from models.errors import SettingsError, Unsupported
from models.mixer import Context
from models.registry import METHODS, load_file
from models.state import State

toy = load_file(Path(__file__).with_name("toy_models.py"))
T, VOCABULARY = toy.T, toy.VOCABULARY


def make(method: str, **settings: Any) -> Backbone:
    return toy.make(method, settings)


@pytest.mark.parametrize("method", METHODS.names())
def test_parameter_counts_are_within_ten_per_cent_of_transformer_xl(method: str) -> None:
    def count(name: str) -> int:
        model = toy.make(name, layers=4, width=128, feedforward=512, heads=4)
        return sum(parameter.numel() for parameter in model.parameters())

    ratio = count(method) / count("transformer_xl")
    if method == "mlp_mixer":  # no matrices of the model's width; the report says so beside its name
        assert ratio < 0.9
    else:
        assert ratio == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("loss", "times"), [("bptt", 1), ("attention_reconstruction", 1), ("auto_encoding", 2)])
def test_a_convolution_adds_its_matrices_and_a_decoder_as_many_again(loss: str, times: int) -> None:
    def count(**compression: str) -> int:
        settings = {"memory_length": 16, "compress_size": 32, "rate": 4, **compression}
        model = toy.make("compressive", settings, 16, width=24, layers=3)
        return sum(parameter.numel() for parameter in model.parameters())

    added = count(compression="conv", compression_loss=loss) - count(compression="mean")
    assert added == 3 * times * (4 * 24 * 24 + 24)


def test_pre_norm_starts_with_smaller_output_projections() -> None:
    post, pre = (toy.make("transformer_xl", layers=8, width=64, feedforward=128, pre_norm=pre) for pre in (False, True))
    for name in ("mixer.project.output.weight", "contract.weight", "contract.bias"):
        ratio = post.layers()[0].get_parameter(name) / pre.layers()[0].get_parameter(name)
        torch.testing.assert_close(ratio, torch.full_like(ratio, 4.0))
    for method, names in (("lstm", ["output.weight"]), ("mlp_mixer", ["second.weight", "second.bias"])):
        both = [toy.make(method, layers=8, pre_norm=pre).layers()[0].mixer for pre in (False, True)]
        for name in names:
            ratio = both[0].get_parameter(name) / both[1].get_parameter(name)
            torch.testing.assert_close(ratio, torch.full_like(ratio, 4.0))
    same = ("mixer.project.value.weight", "expand.weight")
    assert all(torch.equal(post.layers()[3].get_parameter(n), pre.layers()[3].get_parameter(n)) for n in same)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("full_attention", {"max_span": 150}),
        ("transformer_xl", {"memory_length": 150}),
        ("adaptive_span", {"max_span": 150}),
        ("compressive", {"memory_length": 100, "compress_size": 200}),
        ("expire_span", {"max_span": 150}),
        ("memory_transformer", {}),
        ("importance_sparse", {}),
    ],
)
def test_position_scale_is_the_standard_deviation_of_the_first_position_vectors(
    method: str, settings: dict[str, Any]
) -> None:
    def first(**extra: float) -> Tensor:
        model: Backbone = toy.make(method, {**settings, **extra}, block_length=100, width=64)
        return model.shared.get_parameter("p").detach()  # type: ignore[union-attr]

    assert float(first().std()) == pytest.approx(1.0, rel=0.05)
    assert float(first(position_scale=0.25).std()) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("method", ["memory_transformer", "importance_sparse"])
def test_what_is_as_old_as_memory_has_slots_has_lost_one_at_first(method: str) -> None:
    fade = make(method, slots=20, fading="learned").layers()[0].mixer.get_parameter("fade")
    torch.testing.assert_close(fade.detach().exp() * 20, torch.ones_like(fade))


@pytest.mark.parametrize("impl", ["reference", "fast"])
def test_any_states_are_the_same_ones_however_they_were_rounded(impl: str) -> None:
    """In float32, in blocks and in pieces: what is any must not be moved by a last bit."""
    model = toy.make("memory_transformer", {"slots": 12, "memory": "random"}, layers=3, pre_norm=True, impl=impl).eval()
    exact = toy.make("memory_transformer", {"slots": 12, "memory": "random"}, layers=3, pre_norm=True).double().eval()
    states = [model.init_state(32), model.init_state(32), exact.init_state(32)]
    with torch.no_grad():
        for _ in range(30):
            tokens = torch.randint(VOCABULARY, (32, T))
            states = [model(tokens, states[0]).state, pieces(model, tokens, states[1]), exact(tokens, states[2]).state]
            for one, other, another in zip(*states, strict=True):
                assert torch.equal(one["time"], other["time"])
                assert torch.equal(one["time"], another["time"])


def pieces(model: Backbone, tokens: Tensor, state: State) -> State:
    """The state after tokens that are read three at a time."""
    for piece in torch.split(tokens, 3, dim=1):
        state = model(piece, state).state
    return state


def test_an_lstms_cell_adds_up_many_small_steps_under_autocast() -> None:
    mixer = make("lstm", hidden=4).layers()[0].mixer
    weights = dict(mixer.named_parameters())
    for name, weight in weights.items():
        weight.data.zero_()
        if name == "recurrent.bias_ih_l0":  # gates open; 0.02 more per token
            weight.data.view(4, 4)[[0, 1]] = 30.0
            weight.data.view(4, 4)[2] = 0.02
    context, state = Context(norm=nn.Identity()), mixer.init_state(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(100):
            state = mixer(torch.zeros(1, T, 16, dtype=torch.bfloat16), state, context).state
    assert state["cell"].dtype == torch.float32
    torch.testing.assert_close(state["cell"], torch.full((1, 1, 4), 0.02 * 100 * T), rtol=1e-3, atol=0)


def test_adaptive_span_computes_and_caches_only_what_some_head_can_reach() -> None:
    model = make("adaptive_span", max_span=1000, ramp=8, trim_step=50, initial_ratio=0.125)
    mixer = model.layers()[0].mixer
    assert isinstance(mixer, AdaptiveSpan)
    assert mixer.reach(mixer.ratio.tolist()) == 133
    assert mixer.window(mixer.ratio.tolist()) == 150
    state = model.init_state(2)
    for _ in range(40):
        state = model(torch.randint(VOCABULARY, (2, T)), state).state
    alive, held = mixer.slots(state[0])
    assert alive.tolist() == [133, 133]
    assert held == 150 + RESERVE


def test_adaptive_span_counts_what_is_missing_after_growth_as_zero_vectors() -> None:
    model = make("adaptive_span", max_span=200, ramp=8, trim_step=10, initial_ratio=0.0).double()
    state = model.init_state(1)
    with torch.no_grad():
        for _ in range(40):
            state = model(torch.randint(VOCABULARY, (1, T)), state).state
        held = state[0]["memory"].shape[1]
        assert held == 10 + RESERVE
        for block in model.layers():
            block.mixer.get_parameter("ratio").fill_(1.0)
        tokens = torch.randint(VOCABULARY, (1, T))
        padded = [{"memory": nn.functional.pad(layer["memory"], (0, 0, 200 - held, 0))} for layer in state]
        torch.testing.assert_close(model(tokens, state).y, model(tokens, padded).y, rtol=0, atol=1e-12)


def test_full_attention_without_a_span_stops_at_its_capacity_instead_of_forgetting() -> None:
    model = make("full_attention", capacity=4 * T)
    tokens, state = torch.randint(VOCABULARY, (1, T)), model.init_state(1)
    for _ in range(3):
        state = model(tokens, state).state
    with pytest.raises(RuntimeError, match="max_span"):
        model(tokens, state)


def test_memory_none_is_each_block_alone() -> None:
    model = make("full_attention", memory="none").double().eval()
    tokens = torch.randint(VOCABULARY, (2, 2 * T))
    with torch.no_grad():
        state = model(tokens[:, :T], model.init_state(2)).state
        second = model(tokens[:, T:], state).y
        alone = model(tokens[:, T:], model.init_state(2)).y
    torch.testing.assert_close(second, alone, rtol=0, atol=0)


def test_a_method_that_cannot_read_again_says_what_it_lacks() -> None:
    model = toy.make("transformer_xl", {"memory_length": 4}, 4)
    with pytest.raises(NotImplementedError, match=r"models\.transformer_xl has no `again`, which a method with two"):
        model.again(model.init_state(2))


def test_a_block_longer_than_configured_is_refused() -> None:
    model = make("transformer_xl", memory_length=16)
    with pytest.raises(ValueError, match="configured for 8"):
        model(torch.zeros(1, T + 1, dtype=torch.long), model.init_state(1))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("compressive", {"memory_length": 16, "rate": 3}, r"method\.compressive\.rate.*does not divide"),
        ("compressive", {"memory_length": 7}, r"memory_length.*own future"),
        ("compressive", {"memory_length": 16, "compress_size": 10}, r"compress_size.*no multiple"),
        ("expire_span", {"initial_fraction": 1.5}, r"initial_fraction"),
        ("expire_span", {"ramp": 0}, r"method\.expire_span\.ramp"),
        ("adaptive_span", {"initial_ratio": -0.1}, r"initial_ratio"),
        ("transformer_xl", {"memory_length": 0}, r"memory_length"),
        ("transformer_xl", {"same_length": True}, r"sinusoidal"),
        ("full_attention", {"max_span": 0}, r"max_span"),
        ("memory_transformer", {"slots": 0}, r"memory_transformer\.slots"),
        ("memory_transformer", {"reading": "two_pass", "fading": "learned"}, r"fading.*no age"),
        ("memory_transformer", {"reading": "two_pass", "memory": "none"}, r"reading.*leaves nothing"),
        ("importance_sparse", {"slots": 0}, r"importance_sparse\.slots"),
        ("performer", {"features": 0}, r"features"),
        ("performer", {"redraw_every": -1}, r"redraw_every"),
        ("performer", {"reset_every": -1}, r"reset_every"),
        ("lstm", {"hidden": 0}, r"lstm\.hidden"),
        ("mlp_mixer", {"window": 0}, r"mlp_mixer\.window"),
        ("mlp_mixer", {"hidden": 0}, r"mlp_mixer\.hidden"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_key(
    method: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        make(method, **settings)


def test_backbone_settings_and_unknown_impls_are_refused_with_their_key() -> None:
    with pytest.raises(SettingsError, match=r"backbone\.heads"):
        BackboneSettings(width=30, heads=4)
    values = METHODS.load("transformer_xl").Settings()
    with pytest.raises(SettingsError, match="impl"):
        build("transformer_xl", values, BackboneSettings(), T, nn.Embedding(2, 128), nn.Linear(128, 2), "turbo")


def test_a_tied_output_needs_a_matching_encoder_and_head() -> None:
    values = METHODS.load("transformer_xl").Settings(positions="sinusoidal")
    with pytest.raises(Unsupported, match="ties its output"):
        build("transformer_xl", values, BackboneSettings(), T, nn.Linear(5, 128), nn.Linear(128, 7))
