"""Methods without a golden file against loops over t and i, written from docs/methods.md alone: outputs and gradients.

The loops (`oracles/`) share no code with the methods, and were written by someone who had not seen them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.mixer import Context
from models.registry import load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))
importance: Any = load_file(Path(__file__).with_name("oracles") / "importance.py")
compressed: Any = load_file(Path(__file__).with_name("oracles") / "compressive.py")
recurrent: Any = load_file(Path(__file__).with_name("oracles") / "recurrent.py")

T, WIDTH, HEADS, HEAD_DIM, BLOCKS, ROWS = 4, 8, 2, 6, 5, 2
Norm = Callable[[Tensor], Tensor]
Outcome = tuple[list[Tensor], list[Tensor]]
"""Per block: y [T, E], and the auxiliary loss if there is any."""


def weights_of(model: Backbone) -> dict[str, Tensor]:
    """The parameters of the first layer, by the oracles' names."""
    mixer = model.layers()[0].mixer
    named = {name.removeprefix("project."): parameter for name, parameter in mixer.named_parameters()}
    weights: dict[str, Tensor] = {name.removesuffix(".weight"): value for name, value in named.items()}
    if model.shared is not None:
        weights["p"] = model.shared.get_parameter("p")
    return weights


def without_fading(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what the loops know from the weights, which have a `fade`."""
    return {name: value for name, value in settings.items() if name != "fading"}


def memory_transformer(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    def outcome(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm) -> Outcome:
        own = {**weights, "importance": weights["importance"][0]}
        return importance.memory_transformer(blocks, own, norm, T=T, heads=HEADS, **without_fading(settings)), []

    return outcome


def importance_sparse(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    return lambda blocks, weights, norm: (
        importance.importance_sparse(blocks, weights, norm, T=T, heads=HEADS, **without_fading(settings)),
        [],
    )


def compressive(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    def outcome(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm) -> Outcome:
        names = {"compressor.convolve": "conv_weight", "compressor.convolve.bias": "conv_bias"}
        names |= {"compressor.decode": "decoder_weight", "compressor.decode.bias": "decoder_bias"}
        own = {names.get(name, name): value for name, value in weights.items()}
        rate = settings["rate"]
        found: Outcome = compressed.compressive(
            blocks,
            own,
            norm,
            T=T,
            heads=HEADS,
            recent=settings["memory_length"],
            compressed=settings["compress_size"] // rate,
            rate=rate,
            compression=settings["compression"],
            compression_loss=settings.get("compression_loss", "attention_reconstruction"),
        )
        return found

    return outcome


def performer(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    chosen = {name: settings[name] for name in ("positions", "reset_every") if name in settings}
    kernel = settings.get("kernel", "softmax")
    return lambda blocks, weights, norm: (
        recurrent.performer(blocks, weights, norm, T=T, heads=HEADS, features=kernel, **chosen),
        [],
    )


def lstm(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    def outcome(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm) -> Outcome:
        own = {name.removeprefix("recurrent.").removesuffix("_l0"): value for name, value in weights.items()}
        return recurrent.lstm(blocks, own, norm, T=T), []

    return outcome


def mlp_mixer(settings: dict[str, Any]) -> Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]:
    def outcome(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm) -> Outcome:
        own = {
            "first_weight": weights["first"],
            "first_bias": weights["first.bias"],
            "second_weight": weights["second"][0],
            "second_bias": weights["second.bias"][0],
        }
        return recurrent.mlp_mixer(blocks, own, norm, T=T, window=settings["window"]), []

    return outcome


ORACLES: dict[str, Callable[[dict[str, Any]], Callable[[list[Tensor], dict[str, Tensor], Norm], Outcome]]] = {
    "memory_transformer": memory_transformer,
    "importance_sparse": importance_sparse,
    "compressive": compressive,
    "performer": performer,
    "lstm": lstm,
    "mlp_mixer": mlp_mixer,
}
SIZES = ({"memory_length": 4, "compress_size": 6, "rate": 2}, {"memory_length": 6, "compress_size": 4, "rate": 4})
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("memory_transformer", {"slots": slots}) for slots in (2, 4, 7)),
    *(("memory_transformer", {"slots": 3, "memory": memory}) for memory in ("recent", "none")),
    *(("memory_transformer", {"slots": slots, "reading": "two_pass"}) for slots in (3, 30)),
    ("memory_transformer", {"slots": 3, "reading": "two_pass", "memory": "recent"}),
    ("memory_transformer", {"slots": 5, "fading": "learned"}),
    *(("importance_sparse", {"slots": slots}) for slots in (2, 7)),
    ("importance_sparse", {"slots": 5, "fading": "learned"}),
    *(("compressive", {**sizes, "compression": how}) for sizes in SIZES for how in ("mean", "max", "most_used")),
    *(
        ("compressive", {**sizes, "compression": how, "compression_loss": loss})
        for sizes in SIZES
        for how in ("conv", "dilated_conv")
        for loss in ("attention_reconstruction", "auto_encoding", "bptt")
    ),
    ("performer", {"features": 9}),
    ("performer", {"features": 9, "positions": "none"}),
    ("performer", {"features": 9, "kernel": "relu"}),
    *(("performer", {"features": 9, "reset_every": tokens}) for tokens in (3, 8)),
    ("lstm", {"hidden": 5}),
    ("mlp_mixer", {"window": 7, "hidden": 3}),
]


def ours(model: Backbone, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the first layer makes of x [B, BLOCKS * T, E], and its auxiliary losses."""
    block = model.layers()[0]
    mixer = block.mixer
    context = Context(norm=block.norm1 if model.sizes.pre_norm else nn.Identity(), shared=model.shared)
    state = mixer.init_state(x.shape[0])
    for reading in range(mixer.readings):
        outputs, losses = [], []
        if reading == 1:
            state = mixer.again(state)
        for piece in torch.split(x, T, dim=1):
            mixed = mixer(piece, state, context)
            state = mixed.state
            outputs.append(mixed.y)
            losses += [] if mixed.aux_loss is None else [mixed.aux_loss]
    return torch.cat(outputs, dim=1), losses


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize(("method", "settings"), CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_loops(
    method: str, settings: dict[str, Any], pre_norm: bool, record_property: Callable[[str, object], None]
) -> None:
    model = toy.moved(toy.make(method, settings, T, width=WIDTH, heads=HEADS, head_dim=HEAD_DIM, pre_norm=pre_norm))
    model.train()
    weights, norm = weights_of(model), model.layers()[0].norm1 if pre_norm else nn.Identity()
    if method == "performer":
        weights["features"] = model.layers()[0].mixer.features
    torch.manual_seed(7)
    x = torch.randn(ROWS, BLOCKS * T, WIDTH, dtype=torch.double, requires_grad=True)
    direction = torch.randn(ROWS, BLOCKS * T, WIDTH, dtype=torch.double)

    y, losses = ours(model, x)
    rows = [ORACLES[method](settings)(list(torch.split(row, T)), weights, norm) for row in x]
    expected = torch.stack([torch.cat(outputs) for outputs, _ in rows])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)

    total, expected_total = (y * direction).sum(), (expected * direction).sum()
    if losses:
        per_block = torch.stack([torch.stack(of_row) for _, of_row in rows]).mean(0)
        torch.testing.assert_close(torch.stack(losses), per_block, rtol=1e-10, atol=1e-12)
        total, expected_total = total + torch.stack(losses).sum(), expected_total + per_block.sum()
    learned = {
        name: value
        for name, value in {**weights, **dict(norm.named_parameters(prefix="norm")), "x": x}.items()
        if value.requires_grad
    }
    by_ours = torch.autograd.grad(total, list(learned.values()), allow_unused=True)
    by_loops = torch.autograd.grad(expected_total, list(learned.values()), allow_unused=True)
    worst = float((y - expected).detach().abs().max())
    for name, one, other in zip(learned, by_ours, by_loops, strict=True):
        assert (one is None) == (other is None), f"{name}: only one of the two has a gradient"
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10, msg=f"gradient of {name}")
            worst = max(worst, float((one - other).abs().max()))
    record_property("largest_difference", worst)
