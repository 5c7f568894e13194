"""FAVOR+ against the softmax that it approximates, and what becomes of sums when features are drawn anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from models.backbone import BackboneSettings
from models.errors import SettingsError
from models.mixer import Context
from models.performer import Settings, check, orthogonal
from models.registry import load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))
exact_softmax: Any = load_file(Path(__file__).with_name("oracles") / "recurrent.py").exact_softmax

N = 24


def error(features: int) -> float:
    """The root mean squared difference of one layer's output from exact softmax attention, over many draws."""
    squares = []
    for draw in range(24):
        model = toy.make(
            "performer", {"features": features, "positions": "none"}, N, heads=1, width=8, layers=1
        ).double()
        mixer = model.layers()[0].mixer
        source = torch.Generator().manual_seed(draw)
        mixer.features.copy_(orthogonal(features, 8, source))
        # Not too long: the variance grows with exp(|q + k|^2).
        x = torch.randn(1, N, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double) / 2
        with torch.no_grad():
            y = mixer(x, mixer.init_state(1), Context(norm=torch.nn.Identity())).y[0]
            query, key, value = (part[0, 0] for part in mixer.project(x, N))
            squares.append((y - mixer.project.output(exact_softmax(query, key, value))).square().mean())
    return float(torch.stack(squares).mean().sqrt())


@pytest.mark.slow
def test_the_error_to_exact_softmax_falls_as_one_over_the_root_of_the_number_of_features() -> None:
    errors = {features: error(features) for features in (16, 64, 256, 1024)}
    for features in (16, 64, 256):
        assert errors[features] / errors[4 * features] == pytest.approx(2, rel=0.25), errors
    assert errors[1024] < 0.02


def test_features_are_orthogonal_and_as_long_as_gaussian_vectors() -> None:
    width = 16
    rows = orthogonal(3 * width, width, torch.Generator().manual_seed(0)).double()
    for block in torch.split(rows, width):
        between = block @ block.T
        assert (between - between.diagonal().diag()).abs().max() < 1e-4
    lengths = orthogonal(4000, width, torch.Generator().manual_seed(1)).double().square().sum(1)
    assert float(lengths.mean()) == pytest.approx(width, rel=0.03)  # chi-squared of `width` degrees
    assert float(lengths.var()) == pytest.approx(2 * width, rel=0.15)


@pytest.mark.parametrize("redraws", [0, 1])
def test_a_models_features_are_orthogonal_from_the_start_and_after_a_redraw(redraws: int) -> None:
    model = toy.make("performer", {"features": 16, "redraw_every": 1}, width=16, heads=2)
    for _ in range(redraws):
        model.after_step()
    for block in torch.split(model.layers()[0].mixer.features.double(), 8):
        between = block @ block.T
        assert (between - between.diagonal().diag()).abs().max() < 1e-4


def test_the_default_number_of_features_is_d_log_d() -> None:
    model = toy.make("performer", width=32, heads=2)
    assert model.layers()[0].mixer.features.shape == (round(16 * math.log(16)), 16)


def test_a_redraw_changes_features_begins_the_sums_anew_and_is_resumed() -> None:
    model = toy.make("performer", {"redraw_every": 2}).double().train()
    again = toy.make("performer", {"redraw_every": 2}).double().train()
    tokens = torch.randint(toy.VOCABULARY, (2, 2 * toy.T))
    first = model.layers()[0].mixer.features.clone()
    outputs, state = toy.read(model, tokens)
    assert float(outputs[-1].statistics["redraws"]) == 0
    model.after_step()
    assert torch.equal(model.layers()[0].mixer.features, first)
    again.load_state_dict(model.state_dict())  # after one step of two
    for one in (model, again):
        one.after_step()
    assert not torch.equal(model.layers()[0].mixer.features, first)
    assert torch.equal(model.layers()[0].mixer.features, again.layers()[0].mixer.features)

    carried, fresh = model(tokens[:, : toy.T], state), model(tokens[:, : toy.T], model.init_state(2))
    assert float(carried.statistics["redraws"]) == 1
    for layer, other in zip(carried.state, fresh.state, strict=True):
        assert int(layer["draw"][0]) == 1
        assert layer["time"].tolist() == [[3 * toy.T]] * 2
        assert other["time"].tolist() == [[toy.T]] * 2
    nowhere = toy.make("performer", {"redraw_every": 2, "positions": "none"}).double()
    _, old = toy.read(nowhere, tokens)
    for _ in range(2):
        nowhere.after_step()
    for old_layer, new_layer in zip(
        nowhere(tokens[:, : toy.T], old).state, nowhere(tokens[:, : toy.T], nowhere.init_state(2)).state, strict=True
    ):
        torch.testing.assert_close(old_layer["sums"], new_layer["sums"])


def test_rotary_positions_need_an_even_width() -> None:
    with pytest.raises(SettingsError, match="even width"):
        check(Settings(), BackboneSettings(width=15, heads=3), 8)
