"""What is timed of a task of documents is what training does, the same weights bit for bit; and evaluation's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import presets
from bench.cell import build_parts, build_trainer, quiet
from bench.clock import gate, workload
from bench.clock.contestant import Order, Turn
from bench.clock.document_workload import DocumentEvaluationStep, DocumentTrainingStep
from bench.clock.phase import time_rows
from bench.clock.rounds import ask, run
from bench.clock.settings import ClockSettings
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.study import plan
from models import memory_transformer
from models.errors import Unsupported
from models.mixer import Context
from models.registry import METHODS
from models.state import LayerState

CPU = torch.device("cpu")
METHOD = "memory_transformer+reading=two_pass"


def cell(method: str = METHOD) -> CellSpec:
    train = {"steps": 4, "batch_size": 4, "evaluation_batch_size": 8, "learning_rate": 0.01, "log_every": 2}
    assignments = [f"train.{key}={value}" for key, value in train.items()]
    assignments += ["train.clip=0.5", "task.document_labels.evaluation_labels=100", "trainer.accelerator=cpu"]
    preset = read(presets.path("quick"), "quick.yaml")
    planned = plan(preset, name="made", tasks=["document_labels"], methods=[method], assignments=assignments)
    (found,) = planned.cells
    return found


@pytest.mark.parametrize("method", [METHOD, "transformer_xl"])
def test_the_step_outside_the_trainer_is_the_one_that_lightning_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(workload, "STILL", 0.01)
    spec = cell(method)
    spec.train["schedule"] = "constant"
    parts = build_parts(spec)
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    with quiet():
        build_trainer(spec, tmp_path, [], None, 1).fit(parts.module, datamodule=parts.data)
    assert parts.module.step == 4
    work = DocumentTrainingStep(spec, None, CPU)
    work.fill()
    for _ in range(4):
        work.fetch()
        work.step()
    after = work.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in parts.model.state_dict().items())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert work.held() == parts.module.held()


def test_timing_moves_no_weight_and_evaluation_meets_its_documents_again() -> None:
    work = DocumentTrainingStep(cell(), None, CPU)
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    work.fill()
    work.fetch()
    work.step()
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())
    read = DocumentEvaluationStep(cell(), None, CPU)
    said = []
    for _ in range(4):
        read.fetch()
        read.step()
        assert read.batch is not None
        said.append(read.batch.inputs)
    assert torch.equal(said[2], said[0])
    assert not torch.equal(said[1], said[0])
    assert read.held()["slots_allocated"] == 8


def test_a_share_alive_cannot_be_asked_for() -> None:
    work = DocumentTrainingStep(cell("transformer_xl"), None, CPU)
    work.edit_spans = lambda layer, spans: spans
    with pytest.raises(Unsupported, match="share"):
        work.fill()


def test_the_gate_reads_twice_what_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = METHODS.load("memory_transformer").Settings(slots=30, reading="two_pass")
    assert gate.check("memory_transformer", "fast", settings, 8, CPU) == "the reference on the CPU"
    original = memory_transformer.Fast.read

    def read(self: Any, older: Any, block: Any, level: Any, time: Any, state: LayerState, context: Context) -> Any:
        y, caches = original(self, older, block, level, time, state, context)
        return y * (1 + 1e-3 * state["finished"][..., None]), caches

    monkeypatch.setattr(memory_transformer.Fast, "read", read)
    with pytest.raises(gate.ParityMissed, match="outputs of block 0"):
        gate.check("memory_transformer", "fast", settings, 8, CPU)


@pytest.mark.slow
def test_documents_are_timed_outside_and_inside_the_trainer_and_their_tokens_counted() -> None:
    spec = cell()
    orders = {name: Order(spec.to_json(), what, warmup_steps=2) for name, what in (("raw", "step"), ("in", "trainer"))}
    found = run(orders, ClockSettings(rounds=2, steps=4, seconds=0, warmup_steps=2))
    for timed in found.values():
        assert timed.failure is None
        assert all(isinstance(turn, Turn) and turn.held["slots_alive"] == 8 for turn in timed.rounds)
    rows = {row.metric: row for row in time_rows(spec, found["raw"])}
    assert rows["tokens_per_second"].value == pytest.approx(1000 * 4 * 64 / (rows["time_per_batch"].value or 0))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train memory", "evaluation memory"])
def test_the_memory_of_a_document_is_measured(what: str) -> None:
    found = ask(Order(cell().to_json(), what))
    assert isinstance(found, dict), found
    assert found["peak"] > found["static"] > 0
