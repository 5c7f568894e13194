"""Training in other precisions, and with a loss scale as 16-mixed has one on CUDA (here on the CPU)."""

from __future__ import annotations

import contextlib
import io
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.nn import functional

from models.backbone import Output
from models.registry import load_file
from tasks.stream import StreamBatch
from tasks.stream_step import token_nll

toy = load_file(Path(__file__).with_name("toy_training.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")


class ScaledFloat32(MixedPrecision):
    """Losses scaled as in 16-mixed, but all arithmetic in float32: by a power of 2, so nothing may change."""

    def __init__(self, **scaler: Any) -> None:
        super().__init__("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", **scaler))

    def autocast_context_manager(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.write_text(tmp_path_factory.mktemp("text")))


def scale_of(plugin: MixedPrecision) -> tuple[float, int]:
    """The loss scale, and for how many steps in a row it has worked."""
    state = plugin.state_dict()
    return state["scale"], state["_growth_tracker"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(text: str, precision: str) -> None:
    module, data = toy.module_and_data(text, double=precision == "64-true")
    logged = toy.fit(module, data, precision=precision)
    assert all(math.isfinite(entry.get("loss", 0.0)) for entry in logged)


@pytest.mark.parametrize("method", methods.every_method("expire_span"))
def test_a_run_in_bf16_has_nearly_the_losses_of_one_in_float32(text: str, method: str) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        module, data = toy.module_and_data(text, method, double=False, dropout=0.0, log_every=1, steps=8)
        logged = toy.fit(module, data, precision=precision)
        losses.append([entry["loss"] for entry in logged if "loss" in entry] + [module.scores[0].value])
    exact, rough = losses
    assert exact[0] - exact[-2] > 0.02, "the loss is to move"
    assert rough == pytest.approx(exact, abs=0.02)
    assert rough != exact


@pytest.mark.parametrize("autocast", [False, True])
def test_losses_are_computed_in_float32_from_half_precision_logits(autocast: bool) -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(4, 8, 50)).bfloat16()
    targets = torch.randint(50, (4, 8))
    batch = StreamBatch(targets, targets, torch.ones(4, 8), torch.zeros(4, dtype=torch.bool), {})
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = token_nll(Output(logits, [], torch.zeros(()), {}), batch)
    assert losses.dtype == torch.float32
    expected = functional.cross_entropy(logits.double().flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(losses.double().flatten(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["adam", "adagrad"])
def test_clipping_with_a_loss_scale_gives_the_weights_it_gives_without(text: str, optimiser: Any) -> None:
    # Weight decay is added to the gradient, so that an optimiser that knows only its direction still sees its size.
    train = {"double": False, "clip": 0.4, "weight_decay": 0.1, "optimiser": optimiser, "steps": 8, "validate_every": 8}
    plain, data = toy.module_and_data(text, **train)
    toy.fit(plain, data)
    loose, data = toy.module_and_data(text, **{**train, "clip": 0.0})
    toy.fit(loose, data)
    scaled, data = toy.module_and_data(text, **train)
    plugin = ScaledFloat32(init_scale=2.0**12, growth_interval=3)
    toy.fit(scaled, data, plugins=[plugin])
    assert scale_of(plugin) == (2.0**14, 2), "the scale is to have been used, and to have grown"
    weights, unclipped = plain.model.state_dict(), loose.model.state_dict()
    assert any(not torch.allclose(weights[name], unclipped[name], rtol=0, atol=1e-3) for name in weights)
    for name, tensor in scaled.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 9])
def test_a_run_with_a_loss_scale_that_was_stopped_goes_on_exactly(text: str, stop: int) -> None:
    def parts() -> tuple[Any, Any, MixedPrecision]:
        # The first scale is too large for half precision: steps are skipped until it has come down, and then it grows.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=2)
        return *toy.module_and_data(text, double=False, clip=0.5), MixedPrecision("16-mixed", "cpu", scaler=scaler)

    module, data, plugin = parts()
    undisturbed = toy.fit(module, data, plugins=[plugin])

    stopper = toy.StopAt(stop)
    first, data, before = parts()
    with pytest.raises(toy.Stop):
        toy.fit(first, data, stopper, plugins=[before])
    assert scale_of(before)[0] < 2.0**22, "steps are to have been skipped before the run is stopped"
    again, data, after = parts()
    again.load_resume_state(torch.load(io.BytesIO(stopper.saved), weights_only=True))
    resumed = toy.fit(again, data, plugins=[after])

    assert resumed == [entry for entry in undisturbed if entry["step"] > stop]
    assert scale_of(after) == scale_of(plugin)
    for name, tensor in module.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
