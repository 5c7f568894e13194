"""Training on streams: rows in groups, exact resume, schedules, resets and blocks without targets."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from models.registry import load_file
from tasks import enwik8
from tasks.stream import StreamBatch, StreamData
from tasks.stream_step import enter
from tasks.task_module import Diverged
from tasks.train_settings import TrainSettings

toy = load_file(Path(__file__).with_name("toy_training.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")
fit, module_and_data = toy.fit, toy.module_and_data


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.write_text(tmp_path_factory.mktemp("text")))


@pytest.mark.parametrize("method", methods.every_method())
@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), 7, pytest.param(11, marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_exactly(text: str, method: str, stop: int) -> None:
    module, data = module_and_data(text, method, double=False)
    undisturbed = fit(module, data)
    assert [entry["step"] for entry in undisturbed] == [2, 4, 5, 6, 8, 10, 10, 12, 12]

    stopper = toy.StopAt(stop)
    with pytest.raises(toy.Stop):
        fit(*module_and_data(text, method, double=False), stopper)
    again, data = module_and_data(text, method, double=False)
    again.load_resume_state(torch.load(io.BytesIO(stopper.saved), weights_only=True))
    resumed = fit(again, data)
    assert resumed == [entry for entry in undisturbed if entry["step"] > stop]
    for name, tensor in module.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


@pytest.mark.parametrize("method", methods.every_method("expire_span"))
def test_four_groups_of_two_rows_train_as_eight_rows(text: str, method: str) -> None:
    whole, data = module_and_data(text, method, dropout=0.0, clip=0.5)
    fit(whole, data)
    grouped, data = module_and_data(text, method, dropout=0.0, clip=0.5, accumulation=4)
    fit(grouped, data)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(grouped.model.state_dict()[name], tensor, rtol=0, atol=1e-9)
    assert grouped.scores[0].value == pytest.approx(whole.scores[0].value, abs=1e-9)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "adagrad"])
def test_every_optimiser_lowers_the_loss(text: str, optimiser: Any) -> None:
    module, data = module_and_data(text, optimiser=optimiser, steps=30, validate_every=30)
    logged = fit(module, data)
    assert logged[-2]["loss"] < logged[0]["loss"] - 0.2


def test_memory_is_carried_from_block_to_block_and_reset_where_a_row_starts_again(text: str) -> None:
    module, _ = module_and_data(text)
    module.model.eval()
    batch = next(iter(StreamData(enwik8, enwik8.Settings(path=text), module.settings, 3)._evaluation("validation")))
    carried = module.model(batch.inputs, module.model.init_state(4)).state
    batch.reset = torch.tensor([True, False, False, True])
    entered = enter(module.model, carried, batch)
    fresh = module.model.init_state(4)
    assert torch.equal(entered[0]["memory"][3, -8:], fresh[0]["memory"][3, -8:])
    assert torch.equal(entered[0]["memory"][1], carried[0]["memory"][1])


def test_spans_are_kept_in_range_after_each_step(text: str) -> None:
    module, data = module_and_data(text, "adaptive_span", learning_rate=0.5, schedule="constant")
    fit(module, data)
    for block in module.model.layers():
        ratio = block.mixer.get_parameter("ratio").detach()
        assert 0 <= float(ratio.min()) <= float(ratio.max()) <= 1


def test_a_block_without_targets_makes_no_update_but_advances_memory(text: str) -> None:
    class Silent(StreamData):
        def train_dataloader(self) -> Any:
            blocks = super().train_dataloader()
            read = blocks.source.read

            def silent(position: Any) -> StreamBatch:
                batch = read(position)
                batch.weights = torch.zeros_like(batch.weights)
                return batch

            blocks.source.read = silent  # type: ignore[method-assign]
            return blocks

    module, data = module_and_data(text, steps=3, validate_every=3)
    before = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    fit(module, Silent(enwik8, data.task_settings, module.settings, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.model.state_dict().items())
    assert module.carried is not None
    assert bool((module.carried[1]["memory"] != 0).any())


def test_a_loss_that_is_not_finite_ends_the_run(text: str) -> None:
    module, data = module_and_data(text)
    module.model.layers()[1].contract.bias.data[3] = math.inf
    with pytest.raises(Diverged, match="not finite"):
        fit(module, data)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    train = TrainSettings(steps=110, learning_rate=2.0, warmup_steps=10)
    rates = [train.learning_rate_at(step) for step in range(111)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[110] == pytest.approx(0.0)
    assert TrainSettings(schedule="constant", learning_rate=2.0).learning_rate_at(999) == 2.0
