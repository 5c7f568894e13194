"""How the Compressive Transformer's convolutions learn: which parameters have a gradient from what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.backbone import BackboneSettings
from models.compressive import Settings, check
from models.compressors import Convolution, MostUsed
from models.errors import SettingsError
from models.registry import load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))

T = 4
SETTINGS = {"memory_length": 4, "compress_size": 8, "rate": 2}
CONVOLUTION = {"compressor.convolve.weight", "compressor.convolve.bias"}
DECODER = {"compressor.decode.weight", "compressor.decode.bias"}


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("compression", ["conv", "dilated_conv"])
@pytest.mark.parametrize(
    ("loss", "by_loss", "by_task"),
    [
        ("attention_reconstruction", CONVOLUTION, set()),
        ("auto_encoding", CONVOLUTION | DECODER, set()),
        ("bptt", set(), CONVOLUTION),
    ],
)
@pytest.mark.parametrize("impl", ["reference", "fast"])
def test_each_loss_reaches_the_compressor_and_nothing_else(
    loss: str, by_loss: set[str], by_task: set[str], compression: str, pre_norm: bool, impl: str
) -> None:
    settings = {**SETTINGS, "compression": compression, "compression_loss": loss}
    model = toy.moved(toy.make("compressive", settings, T, pre_norm=pre_norm, impl=impl)).train()
    outputs, _ = toy.read(model, torch.randint(toy.VOCABULARY, (2, 4 * T)))
    named = dict(model.named_parameters())

    def reached(value: torch.Tensor) -> set[str]:
        if not value.requires_grad:
            return set()
        found = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
        return {name for name, gradient in zip(named, found, strict=True) if gradient is not None and gradient.any()}

    def of_both_layers(names: set[str]) -> set[str]:
        return {f"blocks.{layer}.mixer.{name}" for layer in (0, 1) for name in names}

    assert reached(outputs[-1].aux_loss) == of_both_layers(by_loss)
    from_task = reached(outputs[-1].y.sum())
    compressors = {name for name in named if ".compressor." in name}
    assert from_task & compressors == of_both_layers(by_task)
    everything = set(named) - compressors
    assert from_task >= everything - {"encoder.weight", "norm.bias"}, "what the task's gradient should reach"


@pytest.mark.parametrize("loss", ["attention_reconstruction", "auto_encoding"])
def test_the_loss_of_a_piece_is_its_share_of_the_block(loss: str) -> None:
    model = toy.moved(toy.make("compressive", {**SETTINGS, "compression": "conv", "compression_loss": loss}, T))
    tokens = torch.randint(toy.VOCABULARY, (2, 4 * T))
    whole, _ = toy.read(model.train(), tokens)
    pieces, _ = toy.read(model, tokens, [1, 3, 3, 1, 2, 2, 4])
    of_blocks = [sum(pieces[i].aux_loss for i in part) for part in ((0, 1), (2, 3), (4, 5), (6,))]
    torch.testing.assert_close(torch.stack([output.aux_loss for output in whole]), torch.stack(of_blocks))


def test_there_is_no_loss_in_evaluation() -> None:
    model = toy.make("compressive", {**SETTINGS, "compression": "conv"}, T).eval()
    outputs, _ = toy.read(model, torch.randint(toy.VOCABULARY, (2, 2 * T)))
    assert all(float(output.aux_loss.detach()) == 0 for output in outputs)


def test_the_most_used_states_stay_in_order_and_of_equal_ones_the_newer() -> None:
    old = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    kept = MostUsed(2)(old, torch.tensor([[3.0, 1.0, 2.0, 5.0, 2.0, 2.0]]))
    assert kept[0, :, 0].tolist() == [0, 3, 5]


def test_a_dilated_convolution_reads_every_second_state_back_to_the_group_before() -> None:
    convolution = Convolution(width=1, rate=3, dilated=True, loss="bptt")
    convolution.convolve.weight.data = torch.tensor([[[1.0, 10.0, 100.0]]])
    convolution.convolve.bias.data.zero_()  # type: ignore[union-attr]
    slots = convolution(torch.arange(1.0, 7.0)[None, :, None], None)
    # Slot 0 of x_0 .. x_2: x_{-2} and x_0 are 0 and 1, x_2 is 3. Slot 1: x_1, x_3, x_5 are 2, 4, 6.
    assert slots[0, :, 0].tolist() == [310.0, 642.0]


def test_a_loss_for_what_has_nothing_to_learn_is_refused() -> None:
    settings = Settings(memory_length=4, compress_size=8, rate=2, compression="max", compression_loss="bptt")
    with pytest.raises(SettingsError, match="nothing to learn"):
        check(settings, BackboneSettings(), T)
