"""What is timed of an acting task is what training does: the same weights bit for bit; and evaluation's episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import presets
from bench.cell import build_parts, build_trainer, quiet
from bench.clock import episode_workload
from bench.clock.contestant import Order, Turn
from bench.clock.episode_workload import EpisodeEvaluationStep, EpisodeTrainingStep
from bench.clock.phase import time_rows
from bench.clock.rounds import ask, run
from bench.clock.settings import ClockSettings
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.study import plan
from tasks import episode_step
from tasks.actor_critic import Played, play

CPU = torch.device("cpu")
TASKS = ["corridor", "portal"]


def cell(task: str, method: str = "expire_span") -> CellSpec:
    train = {"steps": 4, "batch_size": 4, "evaluation_batch_size": 8, "learning_rate": 0.01, "log_every": 2}
    assignments = [f"train.{key}={value}" for key, value in train.items()]
    assignments += ["train.clip=0.5", f"task.{task}.evaluation_episodes=16", "trainer.accelerator=cpu"]
    preset = read(presets.path("quick"), "quick.yaml")
    (found,) = plan(preset, name="made", tasks=[task], methods=[method], assignments=assignments).cells
    return found


@pytest.mark.parametrize("task", TASKS)
def test_the_step_outside_the_trainer_is_the_one_that_lightning_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(episode_workload, "STILL", 0.01)
    spec = cell(task)
    parts = build_parts(spec)
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    with quiet():
        build_trainer(spec, tmp_path, [], None, 2).fit(parts.module, datamodule=parts.data)
    assert parts.module.step == 4
    work = EpisodeTrainingStep(spec, None, CPU, whole=False)
    work.fill()
    for _ in range(4):
        work.fetch()
        work.step()
    after = work.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in parts.model.state_dict().items())
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert work.held() == parts.module.held()


def test_a_step_is_timed_until_the_horizon_however_soon_worlds_end(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = cell("corridor")
    steps = []

    def noted(*arguments: Any, **keywords: Any) -> Played:
        found = play(*arguments, **keywords)
        steps.append(found.action.shape[1])
        return found

    monkeypatch.setattr(episode_step, "play", noted)
    monkeypatch.setattr(episode_workload, "play", noted)
    for work in (EpisodeTrainingStep(spec, None, CPU), EpisodeEvaluationStep(spec, None, CPU)):
        act = work.worlds.act
        monkeypatch.setattr(
            work.worlds, "act", lambda *given, act=act: (act(*given)[0], torch.ones(given[0].shape[0]) > 0)
        )
        work.fetch()
        work.step()
    assert steps == [2 * 6 + 20] * 2


def test_timing_moves_no_weight() -> None:
    work = EpisodeTrainingStep(cell("corridor"), None, CPU)
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    for _ in range(3):
        work.fetch()
        work.step()
    assert all(torch.equal(value, before[name]) for name, value in work.model.state_dict().items())
    assert work.static_bytes() > 3 * sum(4 * value.numel() for value in work.model.parameters())


def test_evaluation_meets_its_episodes_again_and_again() -> None:
    work = EpisodeEvaluationStep(cell("portal"), None, CPU)
    seeds = []
    for _ in range(10):
        work.fetch()
        work.step()
        seeds.append(work.batch.seed)
    assert seeds[4:8] == seeds[:4]
    assert len(set(seeds)) == 2, "greedy and drawn actions meet the same two batches of worlds"
    assert work.held()["slots_allocated"] > 0


@pytest.mark.slow
def test_an_agent_takes_turns_with_itself_in_the_trainer_step_for_step() -> None:
    spec = cell("corridor", "transformer_xl").to_json()
    orders = {name: Order(spec, what, warmup_steps=2) for name, what in (("raw", "step"), ("in it", "trainer"))}
    found = run(orders, ClockSettings(rounds=2, steps=4, seconds=0, warmup_steps=2))
    for timed in found.values():
        assert timed.failure is None
        assert timed.ready is not None
        for turn in timed.rounds:
            assert isinstance(turn, Turn)
            assert len(turn.samples_ms) == 2
            assert turn.held["slots_alive"] == 16, "32 steps fill a memory of 16"
    assert found["raw"].ready is not None
    assert found["raw"].ready.acts
    rows = {row.metric: row for row in time_rows(cell("corridor", "transformer_xl"), found["raw"])}
    assert rows["episodes_per_second"].value == pytest.approx(1000 * 4 / (rows["time_per_batch"].value or 0))
    assert rows["time_per_batch"].context["memory_steady"] is None
    assert "tokens_per_second" not in rows


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train memory", "evaluation memory"])
def test_an_agents_memory_is_measured(what: str) -> None:
    found = ask(Order(cell("portal").to_json(), what))
    assert isinstance(found, dict), found
    assert found["peak"] > found["static"] > 0
