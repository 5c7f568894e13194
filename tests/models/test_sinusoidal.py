"""Transformer-XL as Dai et al. published it: what its first loss is. (Its numbers are in the golden files.)"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import Backbone, BackboneSettings, build
from models.registry import METHODS

VOCABULARY, T = 256, 16


def make(tie_output: bool, pre_norm: bool) -> Backbone:
    torch.manual_seed(3)
    settings = METHODS.load("transformer_xl").Settings(
        positions="sinusoidal", memory_length=2 * T, tie_output=tie_output
    )
    backbone = BackboneSettings(layers=4, width=128, feedforward=256, heads=4, pre_norm=pre_norm)
    return build("transformer_xl", settings, backbone, T, nn.Embedding(VOCABULARY, 128), nn.Linear(128, VOCABULARY))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("tie_output", [True, False], ids=["tied", "untied"])
def test_training_begins_near_the_loss_of_a_guess(tie_output: bool, pre_norm: bool) -> None:
    model = make(tie_output, pre_norm)
    tokens = torch.randint(VOCABULARY, (8, 3 * T + 1))
    state, losses = model.init_state(8), []
    with torch.no_grad():
        for start in range(0, 3 * T, T):
            output = model(tokens[:, start : start + T], state)
            state = output.state
            losses.append(
                functional.cross_entropy(output.y.flatten(0, 1), tokens[:, start + 1 : start + T + 1].flatten())
            )
    for loss in losses:
        assert float(loss) == pytest.approx(math.log(VOCABULARY), abs=0.3)  # a guess: ln V nats


@pytest.mark.parametrize("tie_output", [True, False], ids=["tied", "untied"])
def test_the_embedding_is_small_where_it_is_scaled_and_the_head_is_tied_to_it_unscaled(tie_output: bool) -> None:
    model = make(tie_output, False)
    embedding = model.encoder.get_parameter("weight").detach()
    assert float(embedding.std()) == pytest.approx(0.02, rel=0.05)
    given: list[Tensor] = []
    model.layers()[0].mixer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    tokens = torch.randint(VOCABULARY, (2, T))
    model(tokens, model.init_state(2))
    torch.testing.assert_close(given[0], embedding[tokens] * math.sqrt(128))
    assert (model.head.get_parameter("weight") is model.encoder.get_parameter("weight")) == tie_output
