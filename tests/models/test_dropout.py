"""Dropout site by site: each acts by itself, in training only, and no method has a site that it should not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.mixer import Mixed
from models.registry import METHODS, load_file

toy = load_file(Path(__file__).with_name("toy_models.py"))

RATE, SINUSOIDAL = 0.3, {"positions": "sinusoidal", "memory_length": 12}
CASES = [
    pytest.param(name, settings, impl, id=f"{name}{'-sinusoidal' if settings else ''}-{impl}")
    for name, settings in [*((name, {}) for name in METHODS.names()), ("transformer_xl", SINUSOIDAL)]
    for impl in METHODS.card(name)["impls"]
]
SMALL: dict[str, dict[str, Any]] = {"compressive": {"memory_length": 8, "compress_size": 16}}


def make(method: str, settings: dict[str, Any], impl: str = "reference") -> Backbone:
    return toy.moved(toy.make(method, {**SMALL.get(method, {}), **settings}, dropout=RATE, impl=impl))


def switch_on(model: Backbone, site: str) -> None:
    """Lets one kind of site drop, as in training, and nothing else."""
    model.eval()
    for block in model.layers():
        if site == "attention":
            block.mixer.train()
        elif site == "feedforward":
            block.dropout.train()
        elif site == "sublayers":
            block.outer_dropout.train()
    if site == "ends":
        model.dropout.train()


def outputs(model: Backbone, seed: int) -> Tensor:
    """Logits of three blocks with the global generator at a seed."""
    tokens = torch.randint(toy.VOCABULARY, (4, 3 * toy.T), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(seed)
    with torch.no_grad():
        return toy.logits(toy.read(model, tokens, randomness=0.9)[0])


@pytest.mark.parametrize(("method", "settings", "impl"), CASES)
@pytest.mark.parametrize("site", ["attention", "feedforward", "sublayers", "ends"])
def test_dropout_acts_at_each_site_by_itself_and_in_training_only(
    method: str, settings: dict[str, Any], impl: str, site: str
) -> None:
    model = make(method, settings, impl)
    undisturbed = outputs(model, 0)
    switch_on(model, site)
    weighs = method not in ("lstm", "mlp_mixer", "performer")  # these have no weights of single positions
    if site == "feedforward" or (site == "attention" and weighs) or settings == SINUSOIDAL:
        assert not torch.allclose(outputs(model, 0), outputs(model, 1), rtol=0, atol=1e-3)
        assert torch.equal(outputs(model, 0), outputs(model, 0))
    else:  # the sublayers and ends of the shared backbone drop nothing
        assert torch.equal(outputs(model, 0), undisturbed)
    model.eval()
    assert torch.equal(outputs(model, 1), undisturbed)


def assert_dropped(given: Tensor, left: Tensor) -> None:
    """What is left of `given` is dropped with probability RATE or scaled up."""
    dropped = left.abs() < 1e-12
    assert float(dropped.double().mean()) == pytest.approx(RATE, abs=0.1)
    torch.testing.assert_close(left[~dropped], given[~dropped] / (1 - RATE), rtol=1e-9, atol=1e-12)


def test_the_sinusoidal_variant_drops_embedding_sublayers_and_what_the_head_reads() -> None:
    model = make("transformer_xl", SINUSOIDAL).train()
    seen: dict[str, Tensor] = {}

    def note(module: nn.Module, name: str) -> None:
        def hook(_: nn.Module, given: tuple[Tensor, ...], result: Tensor | Mixed) -> None:
            seen[f"{name} in"] = given[0]
            seen[f"{name} out"] = result.y if isinstance(result, Mixed) else result

        module.register_forward_hook(hook)

    first, last = model.layers()
    for name in ("mixer", "norm1", "contract", "norm2"):
        note(first.get_submodule(name), name)
    note(last.norm2, "last")
    note(model.encoder, "encoder")
    note(model.head, "head")
    tokens = torch.randint(toy.VOCABULARY, (8, toy.T))
    model(tokens, model.init_state(8))

    assert_dropped(seen["encoder out"] * 16**0.5, seen["mixer in"])
    assert_dropped(seen["mixer out"], seen["norm1 in"] - seen["mixer in"])
    assert_dropped(seen["contract out"], seen["norm2 in"] - seen["norm1 out"])
    assert_dropped(seen["last out"], seen["head in"])
