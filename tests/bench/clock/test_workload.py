"""What is timed is what training does: the same weights bit for bit, on a memory that is full, moving nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cell import build_parts, build_trainer, quiet
from bench.clock import workload
from bench.clock.endless_input import blocks
from bench.clock.workload import EvaluationStep, LayerStep, TrainingStep, filled
from models.registry import METHODS, load_file

tiny = load_file(Path(__file__).with_name("tiny_cells.py"))
methods = load_file(Path(__file__).parents[2] / "every_method.py")
CPU = torch.device("cpu")


@pytest.fixture
def text(tmp_path: Path) -> str:
    return str(tiny.write_text(tmp_path))


def steps(work: Any, count: int) -> None:
    for _ in range(count):
        work.fetch()
        work.step()


@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("transformer_xl", {}),
        ("transformer_xl", {"clip": 0.05, "accumulation": 2, "optimiser": "adagrad"}),
        ("expire_span", {"clip": 0.05, "accumulation": 2}),
        ("adaptive_span", {"optimiser": "adamw", "weight_decay": 0.1}),
        ("compressive", {"accumulation": 4}),
        ("full_attention", {"clip": 0.05}),
    ],
)
def test_the_step_outside_the_trainer_is_the_one_that_lightning_trains(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, train: dict[str, Any]
) -> None:
    monkeypatch.setattr(workload, "STILL", 1e-2)
    noisy = {"noisy": True, "layer_drop": 0.3} if method == "expire_span" else {}
    cell = tiny.spec(
        text, method, settings=noisy, dropout=0.2, learning_rate=1e-2, schedule="constant", steps=6, **train
    )
    parts = build_parts(cell)
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    with quiet():
        build_trainer(cell, tmp_path, [], None, 2).fit(parts.module, datamodule=parts.data)
    assert parts.module.step == 6
    work = TrainingStep(cell, None, CPU)
    steps(work, 6)
    after = work.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in parts.model.state_dict().items())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "adagrad"])
def test_timing_moves_no_weight(text: str, optimiser: str) -> None:
    work = TrainingStep(tiny.spec(text, "adaptive_span", optimiser=optimiser, weight_decay=0.1, clip=1.0), None, CPU)
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    assert any((value == 0).any() for value in before.values()), "zeros are what moves first"
    work.fill()
    steps(work, 5)
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())
    moments = [value for state in work.update.optimiser.state.values() for value in state.values() if value.numel() > 1]
    assert any(bool(moment.any()) for moment in moments), "the optimiser works all the same"


@pytest.mark.parametrize("method", methods.every_method())
def test_memory_is_full_before_the_first_timed_step(text: str, method: str) -> None:
    cell = tiny.spec(text, method)
    horizon = max(block.mixer.horizon() for block in build_parts(cell).model.layers())
    work = TrainingStep(cell, None, CPU, alive=1.0)
    work.fill()
    held = work.held()
    assert held["slots_allocated"] > 0
    steps(work, 2 * math.ceil(horizon / 8))
    assert work.held() == held


def test_filling_says_where_the_stream_goes_on(text: str) -> None:
    parts = build_parts(tiny.spec(text, "transformer_xl"))
    state, position = filled(parts.model, blocks(parts), CPU, None, torch.no_grad)
    stream = blocks(parts)
    read = [next(stream) for _ in range(2)]  # 12 slots, blocks of 8
    assert torch.equal(position["byte"], read[1].position["byte"])
    assert state[0]["memory"].shape[1] == 12


@pytest.mark.parametrize("method", methods.every_method())
def test_a_row_whose_text_ends_goes_on_with_its_memory_full(text: str, method: str) -> None:
    """Rows of 5 blocks of 8, all restarting at about the same step: while memory is filled, and again while timed."""
    work = TrainingStep(tiny.spec(text, method, batch_size=500), None, CPU, alive=1.0)
    work.fill()
    held, laps = work.held(), set()
    for _ in range(12):
        steps(work, 1)
        assert work.batch is not None
        laps |= set(work.batch.position["lap"].tolist())
        assert work.held() == held
    assert max(laps) >= 2, "every row has come to its end"


def test_a_memory_longer_than_a_row_of_text_is_full_all_the_same(text: str) -> None:
    work = TrainingStep(tiny.spec(text, "transformer_xl", settings={"memory_length": 60}, batch_size=500), None, CPU)
    work.fill()
    assert work.state is not None
    assert bool(work.state[0]["memory"].any(-1).all()), "every slot of every row is filled"


def test_evaluation_reads_its_own_rows_and_goes_on_with_a_full_memory_where_the_split_ends(text: str) -> None:
    cell = tiny.spec(text, "transformer_xl", settings={"memory_length": 1300})  # the split has 1,200 bytes in 2 rows
    work = EvaluationStep(cell, None, CPU)
    work.fill()
    assert work.state is not None
    assert work.state[0]["memory"].shape[:2] == (2, 1300)
    assert bool(work.state[0]["memory"].any(-1).all()), "every slot is filled"
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    steps(work, 100)
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())
    assert not work.model.training


@pytest.mark.parametrize("method", METHODS.names())
def test_a_layer_alone_has_its_gradients_and_its_memory(text: str, method: str) -> None:
    work = LayerStep(tiny.spec(text, method, layers=1), CPU, alive=1.0)
    work.fill()
    held = work.held()
    steps(work, 8)
    assert work.held() == held
    assert all(parameter.grad is None for parameter in work.model.parameters())
    work.fetch()
    mixed = work.mixer(work.x, work.state, work.context)
    (mixed.y * work.weight).sum().backward()
    assert work.x.grad is not None
    learned = {name for name, parameter in work.model.named_parameters() if parameter.grad is not None}
    assert learned
    assert all(name.startswith(("blocks.0.mixer.", "shared.")) for name in learned)


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize(
    ("precision", "multiplied_in", "carried_in"),
    [
        ("32-true", torch.float32, torch.float32),
        ("bf16-mixed", torch.bfloat16, None),
        ("64-true",) + 2 * (torch.float64,),
    ],
)
def test_a_layer_alone_computes_in_the_precision_that_was_asked_for(
    text: str, method: str, precision: str, multiplied_in: torch.dtype, carried_in: torch.dtype | None
) -> None:
    work = LayerStep(replace(tiny.spec(text, method, layers=1), precision=precision), CPU, alive=1.0)
    found: list[torch.dtype] = []
    for module in work.mixer.modules():
        spans = method == "expire_span" and module is work.mixer.get_submodule("predictor")  # never in half precision
        if isinstance(module, torch.nn.Linear) and not spans:
            module.register_forward_hook(lambda module, given, output: found.append(output.dtype))
    work.fill()
    filling = len(found)
    steps(work, 2)
    assert filling
    assert len(found) > filling
    assert set(found) == {multiplied_in}
    assert work.x.dtype == work.weight.dtype == next(work.mixer.parameters()).dtype
    if carried_in is not None:
        assert {tensor.dtype for tensor in work.state.values() if tensor.is_floating_point()} == {carried_in}


@pytest.mark.parametrize("alive", [1.0, 0.5, 0.25, 0.1])
def test_controlled_spans_keep_the_share_that_was_asked_for(text: str, alive: float) -> None:
    settings = {"max_span": 80 - 8 + 1, "ramp": 8}  # a memory is alive until it is 80 steps old
    work = TrainingStep(tiny.spec(text, "expire_span", settings=settings), None, CPU, alive=alive)
    work.fill()
    for _ in range(6):
        assert work.held()["slots_alive"] == pytest.approx(80 * alive, abs=1e-9)
        steps(work, 1)
    assert work.held()["slots_allocated"] <= 80 * alive + 8, "what has expired is gone, but for the last block"


def test_controlled_spans_are_left_alone_where_there_are_none_or_none_was_asked_for(text: str) -> None:
    assert TrainingStep(tiny.spec(text, "transformer_xl"), None, CPU, alive=1.0).edit_spans is None
    assert TrainingStep(tiny.spec(text, "expire_span"), None, CPU).edit_spans is None


def test_a_controlled_span_still_costs_its_predictors_gradient(text: str) -> None:
    work = TrainingStep(tiny.spec(text, "expire_span"), None, CPU, alive=0.5)
    work.fill()
    work.fetch()
    assert work.batch is not None
    output = work.model(work.batch.inputs, work.state, 0.5, work.edit_spans)
    (output.y.sum() + output.aux_loss).backward()
    for block in work.model.layers():
        gradient = block.mixer.get_parameter("predictor.weight").grad
        assert gradient is not None
        assert not gradient.any()
