"""The presets that ship: each is valid, says what it is for, and holds what the specification asks of it."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from bench import presets
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.study import plan
from models.errors import SettingsError
from models.registry import METHODS
from tasks.registry import TASKS

RESULTS = Path(__file__).parents[2] / "docs" / "results"
# The full enwik8 need not be on the machine that tests; the rest of `paper` can be checked without.
WITHOUT_DATA = {"paper": ["task.enwik8.data=excerpt"]}


@functools.cache
def cells(name: str) -> list[CellSpec]:
    preset = read(presets.path(name), f"{name}.yaml")
    return plan(preset, name=name, preset_name=name, assignments=WITHOUT_DATA.get(name, []), check_device=False).cells


@pytest.mark.parametrize("name", presets.names())
def test_preset_is_valid_and_says_what_it_is_for(name: str) -> None:
    assert {cell.preset for cell in cells(name)} == {name}
    first = presets.path(name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("about: ")
    assert presets.about(name) == read(presets.path(name), name).study["about"].value


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_committed_results_were_made_with_is_valid(path: Path) -> None:
    assert plan(read(path, path.name), name=path.stem, check_device=False).cells


def test_there_are_three_sizes() -> None:
    assert {"quick", "small", "paper"} <= set(presets.names())


@pytest.mark.parametrize("preset", ["quick", "small", "paper"])
def test_a_preset_has_every_task_and_method_and_each_task_without_memory(preset: str) -> None:
    found = cells(preset)
    assert {cell.task for cell in found} == set(TASKS.names())
    assert {cell.method for cell in found} == set(METHODS.names())
    for task in TASKS.names():
        its = [cell for cell in found if cell.task == task]
        assert len({cell.method for cell in its}) >= 4
        assert any(cell.method_settings.get("memory") == "none" for cell in its)
        if preset == "paper":
            assert {cell.method for cell in its} == set(METHODS.names())


def test_quick_has_one_seed() -> None:
    assert {cell.seed for cell in cells("quick")} == {0}


def acts(cell: CellSpec) -> bool:
    return bool(TASKS.card(cell.task)["objective"] == "episodes")


def own(cell: CellSpec) -> set[str]:
    """Training settings that are a method's own: its learning rate; of agents, the steps it learns from at once."""
    return {"learning_rate", *(["block_length"] if acts(cell) else [])}


@pytest.mark.parametrize("name", ["quick", "small"])
def test_methods_of_a_comparison_share_everything_but_the_method(name: str) -> None:
    found = cells(name)
    for task in {cell.task for cell in found}:
        same = [
            (
                cell.backbone,
                {key: cell.train[key] for key in cell.train.keys() - own(cell)},
                cell.trainer,
                cell.precision,
            )
            for cell in found
            if cell.task == task
        ]
        assert all(settings == same[0] for settings in same)
        blocks = {
            (cell.method, cell.train["block_length"])
            for cell in found
            if cell.task == task and "memory=none" not in cell.variant
        }
        # A block of single steps has nothing to compress, so there the Compressive Transformer has blocks of its rate.
        single = {(method, 1) for method, _ in blocks if method != "compressive"}
        assert len({length for _, length in blocks}) == 1 or blocks == single | {("compressive", 2)}


@pytest.mark.parametrize("name", presets.names())
def test_memories_that_choose_hold_as_many_states(name: str) -> None:
    chosen: dict[str, set[int]] = {}
    for cell in cells(name):
        if cell.method in ("memory_transformer", "importance_sparse"):
            each = cell.backbone["heads"] if cell.method == "importance_sparse" else 1
            chosen.setdefault(cell.task, set()).add(each * cell.method_settings["slots"])
    assert chosen
    assert all(len(sizes) == 1 for sizes in chosen.values()), chosen


@pytest.mark.parametrize("name", ["small", "paper"])
def test_numbers_that_are_compared_come_from_three_seeds_and_of_agents_from_five(name: str) -> None:
    for cell in cells(name):
        seeds = {other.seed for other in cells(name) if other.task == cell.task}
        assert seeds == set(range(5 if acts(cell) else 3))


@pytest.mark.parametrize("name", ["small", "paper"])
def test_agents_are_evaluated_in_a_thousand_episodes_or_more(name: str) -> None:
    agents = [cell for cell in cells(name) if acts(cell)]
    assert {cell.task for cell in agents} == {"corridor", "portal"}
    assert all(cell.task_settings["evaluation_episodes"] >= 1000 for cell in agents)


def test_paper_holds_the_published_recipe() -> None:
    cell = next(cell for cell in cells("paper") if cell.expression == "expire_span" and cell.task == "enwik8")
    assert cell.backbone == {
        "layers": 12,
        "width": 512,
        "feedforward": 2048,
        "heads": 8,
        "head_dim": None,
        "dropout": 0.3,
        "pre_norm": False,
    }
    train = {"batch_size": 512, "block_length": 512, "learning_rate": 7e-4, "warmup_steps": 8000, "clip": 0.3}
    assert train.items() <= cell.train.items()
    assert {"max_span": 16384, "ramp": 128, "coefficient": 1e-6, "noisy": True}.items() <= cell.method_settings.items()


def test_paper_holds_the_published_recipe_of_object_collision() -> None:
    cell = next(cell for cell in cells("paper") if cell.id.startswith("object_collision--expire_span"))
    backbone = {"layers": 6, "width": 512, "feedforward": 1024, "heads": 4, "dropout": 0.1, "pre_norm": True}
    assert backbone.items() <= cell.backbone.items()
    train = {"batch_size": 512, "block_length": 256, "learning_rate": 1e-4, "warmup_steps": 1000, "clip": 0.1}
    assert train.items() <= cell.train.items()
    method = {"max_span": 16384, "ramp": 128, "coefficient": 2e-6, "initial_fraction": 0.01}
    assert method.items() <= cell.method_settings.items()


@pytest.mark.parametrize("name", presets.names())
def test_object_collision_scores_after_every_memory_could_be_full(name: str) -> None:
    for cell in cells(name):
        if cell.task == "object_collision":
            spans = [cell.method_settings.get(key) or 0 for key in ("max_span", "memory_length", "compress_size")]
            assert cell.task_settings["unscored_tokens"] >= sum(spans)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"--preset: there is no preset 'smal'. Did you mean small\?"):
        presets.path("smal")


def test_names_are_known_without_a_yaml_reader(checkout: Path) -> None:
    code = "import sys; from bench import presets; presets.about('quick'); sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout).returncode == 0
