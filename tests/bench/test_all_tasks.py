"""Every task as cells of preset quick: planned, trained, killed and gone on with, scored, and refused where due."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from bench import presets
from bench.cell import build_parts, run_cell
from bench.checkpoints import load
from bench.evaluation import evaluate
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim
from bench.store.result import Result
from bench.study import Study, plan
from models.errors import SettingsError
from models.registry import METHODS
from tasks.actor_critic import play
from tasks.randomness import derive
from tasks.registry import TASKS

ACTING = [name for name in TASKS.names() if TASKS.card(name)["objective"] == "episodes"]
SLOW = ("corridor", "long_copy", "instruction", "object_collision", "portal")
SHORT = {
    "object_collision": ["task.object_collision.evaluation_questions=50"],
    "long_copy": ["task.long_copy.evaluation_symbols=100"],
    "instruction": ["task.instruction.evaluation_tokens=2000"],
    "document_labels": ["task.document_labels.evaluation_labels=100"],
    "corridor": ["task.corridor.evaluation_episodes=16"],
    "portal": ["task.portal.evaluation_episodes=16"],
}


def planned(task: str, methods: list[str], *assignments: str) -> Study:
    return plan(
        read(presets.path("quick"), "quick.yaml"), name="made", tasks=[task], methods=methods, assignments=assignments
    )


def cell(task: str, method: str = "transformer_xl", **train: Any) -> CellSpec:
    budget = {"steps": 6, "validate_every": 3, "checkpoint_every": 2, "log_every": 2, "batch_size": 4}
    budget |= {"evaluation_batch_size": 16} if task in ACTING else {}
    words = [f"train.{key}={value}" for key, value in (budget | train).items()]
    (spec,) = planned(
        task, [method], "trainer.accelerator=cpu", "trainer.precision=64-true", *words, *SHORT[task]
    ).cells
    return spec


@dataclass
class KillAt:
    """A claim that kills the cell where it says so."""

    phase: str
    step: int

    def progress(self, phase: str, step: int = 0, steps: int = 0) -> None:
        if (phase, step) == (self.phase, self.step):
            raise Killed


class Killed(BaseException):
    """What ends a process from outside."""


def run(folder: Path, spec: CellSpec, kill: KillAt | None = None) -> Result:
    place = CellFolder(folder / "cells" / spec.id)
    if not place.path.exists():
        place.create(spec.to_json())
    result = run_cell(spec, place, cast("Claim | None", kill), fresh=False)
    assert result.status == "ok", result.traceback
    return result


def curve(folder: Path, spec: CellSpec) -> list[dict[str, Any]]:
    records = CellFolder(folder / "cells" / spec.id).records()
    return [{key: record[key] for key in ("step", "split", "metric", "value")} for record in records]


@pytest.mark.parametrize("task", ["document_labels", *[pytest.param(name, marks=pytest.mark.slow) for name in SLOW]])
def test_a_cell_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path, task: str) -> None:
    spec = cell(task, "expire_span")
    whole = run(tmp_path / "whole", spec)
    for kill in (
        KillAt("training", 1),
        KillAt("training", 3),
        KillAt("validation", 3),
        KillAt("training", 5),
        KillAt("test", 6),
    ):
        with pytest.raises(Killed):
            run(tmp_path / "killed", spec, kill)
    again = run(tmp_path / "killed", spec)
    assert [(row.metric, row.split, row.value, row.context) for row in again.rows] == [
        (row.metric, row.split, row.value, row.context) for row in whole.rows
    ]
    assert curve(tmp_path / "killed", spec) == curve(tmp_path / "whole", spec)
    weights = [load(tmp_path / name / "cells" / spec.id / "checkpoints" / "last.ckpt") for name in ("whole", "killed")]
    for name, tensor in weights[0]["model"].items():
        assert torch.equal(tensor, weights[1]["model"][name])


@pytest.mark.parametrize("task", [name for name in TASKS.names() if name != "enwik8"])
def test_the_tasks_own_metric_comes_first_on_test_and_validation(tmp_path: Path, task: str) -> None:
    spec, card = cell(task, steps=2, validate_every=2), TASKS.card(task)
    rows = run(tmp_path, spec).rows
    for split in ("test", "validation"):
        first = next(row for row in rows if row.split == split and row.higher_is_better is not None)
        assert (first.metric, first.unit, first.higher_is_better) == (
            card["metric"],
            card["unit"],
            card["higher_is_better"],
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("task", [name for name in TASKS.names() if name != "enwik8"])  # its test is a long one
def test_every_method_is_trained_and_scored_on_every_task(tmp_path: Path, task: str, method: str) -> None:
    rows = run(tmp_path, cell(task, method, steps=2, validate_every=2)).rows
    card = TASKS.card(task)
    scores = {row.split: row.value for row in rows if row.metric == card["metric"]}
    assert set(scores) == {"validation", "test"}
    assert all(value is not None and math.isfinite(value) for value in scores.values())


@pytest.mark.slow
def test_an_agent_is_evaluated_again_as_it_was_tested_and_with_other_spans(tmp_path: Path) -> None:
    spec = cell("corridor", "expire_span")
    result = run(tmp_path, spec)
    checkpoint = tmp_path / "cells" / spec.id / "checkpoints" / "best.ckpt"
    again = evaluate(checkpoint)
    tested = {row.metric: row.value for row in result.rows if row.split == "test" and not row.context.get("length")}
    for score in again.scores:
        if "_by_" not in score.metric:
            assert score.value == tested[score.metric]
    assert [layer.layer for layer in again.spans] == list(range(spec.backbone["layers"]))
    kept, spans = [], []
    parts = build_parts(spec)
    parts.model.load_state_dict(load(checkpoint)["model"])

    def noted(layer: int, predicted: torch.Tensor) -> torch.Tensor:
        if layer == 0:
            spans.append(predicted)
        return predicted

    source = parts.task.evaluation_source(parts.task_settings, parts.train, "test")
    position = source.start()
    for _ in range(source.blocks):
        batch = source.read(position)
        position = batch.position
        draws = None if batch.greedy else torch.Generator().manual_seed(derive(batch.seed, "actions"))
        worlds = parts.task.worlds(parts.task_settings, 16, 0, torch.device("cpu"))
        kept.append(play(parts.model.eval(), worlds, batch.seed, draws, noted).alive)
    alive = torch.cat(kept, 1)
    assert not bool(alive.all()), "some worlds end before others"
    assert again.spans[0].mean == pytest.approx(float(torch.cat(spans, 1)[alive].mean()), rel=1e-6)
    cut = evaluate(checkpoint, longest=1e-6)
    assert cut.statistics["slots_alive"] < again.statistics["slots_alive"]
    with pytest.raises(SettingsError, match=r"--spans.*reads one at a time"):
        evaluate(checkpoint, edit="shuffled")


@pytest.mark.slow
@pytest.mark.parametrize("task", ACTING)
def test_each_score_of_a_tested_agent_is_of_who_it_is_named_after(tmp_path: Path, task: str) -> None:
    spec = cell(task, steps=2, validate_every=2, evaluation_batch_size=256)
    run(tmp_path, spec)
    checkpoint = tmp_path / "cells" / spec.id / "checkpoints" / "best.ckpt"
    # Whatever it sees, the agent goes right with probability 1/2, up with 1/4, and so that all five score differently.
    saved = load(checkpoint)
    saved["model"]["head.weight"].zero_()
    saved["model"]["head.bias"].copy_(torch.tensor([0.25, 0.15, 0.1, 0.5, 1.0]).log())
    torch.save(saved, checkpoint)
    found = {score.metric: score.value for score in evaluate(checkpoint).scores if "_by_" not in score.metric}

    parts = build_parts(spec)
    batch = parts.task.evaluation_source(parts.task_settings, parts.train, "test").read({"read": torch.tensor(0)})
    coins = torch.Generator().manual_seed(derive(batch.seed, "coins"))
    wanted = {}
    for who, policy in (
        ("greedy", lambda here: torch.full((here.count,), 3)),
        ("oracle", lambda here: here.oracle(here.get_state())),
        ("reactive", lambda here: here.reactive(coins)),
        ("chance", lambda here: here.chance(coins)),
    ):
        count = 256 if who == "greedy" else 16 * 256
        worlds = parts.task.worlds(parts.task_settings, count, 0, torch.device("cpu"))
        worlds.reset(batch.seed)
        while not bool(worlds.ended.all()):
            worlds.step(policy(worlds))
        worth = 100 * worlds.success.double() if task == "corridor" else worlds.passed.double()
        wanted[who] = float(worth.mean())
    own, metric = {"corridor": "greedy", "portal": "sampled"}[task], TASKS.card(task)["metric"]
    names = {who: metric if who == own else f"{metric}_{who}" for who in (*wanted, "sampled")}
    assert set(found) == set(names.values())
    assert {who: found[names[who]] for who in wanted} == pytest.approx(wanted)
    assert len(set(found.values())) == 5, "whoever is taken for another is noticed"
    assert wanted["oracle"] == {"corridor": 100, "portal": 2}[task]


@pytest.mark.slow
def test_an_agent_with_memory_learns_what_one_without_cannot(tmp_path: Path) -> None:
    budget = {"steps": 150, "validate_every": 150, "batch_size": 32, "learning_rate": 3e-3, "log_every": 10}
    budget |= {"evaluation_batch_size": 256}
    success = {}
    for method, block in (("transformer_xl", 4), ("full_attention+memory=none", 1)):
        spec = cell("corridor", method, **budget, block_length=block)
        rows = run(tmp_path, spec).rows
        success[method] = next(row.value or 0.0 for row in rows if (row.metric, row.split) == ("success", "test"))
    assert success["transformer_xl"] > 90
    assert 40 < success["full_attention+memory=none"] < 60


@pytest.mark.parametrize("task", ACTING)
def test_without_memory_each_step_stands_alone(task: str) -> None:
    (spec,) = planned(task, ["full_attention+memory=none"]).cells
    assert spec.train["block_length"] == 1
    with pytest.raises(SettingsError, match=r"train\.block_length.*is 4.*without memory each step stands alone"):
        planned(task, ["full_attention+memory=none"], "train.block_length=4")
    assert planned(task, ["transformer_xl"], "train.block_length=4").cells


@pytest.mark.parametrize("task", ACTING)
def test_groups_of_rows_are_refused_where_worlds_act_together(task: str) -> None:
    with pytest.raises(SettingsError, match=r"train\.accumulation.*is 2"):
        planned(task, ["transformer_xl"], "train.accumulation=2")


@pytest.mark.parametrize("task", ["long_copy", "instruction"])
def test_scoring_with_memory_not_yet_full_is_refused(task: str) -> None:
    with pytest.raises(SettingsError, match=rf"task\.{task}\.unscored_tokens.*--set.*3 tokens"):
        planned(task, ["transformer_xl"], f"task.{task}.unscored_tokens=3")
