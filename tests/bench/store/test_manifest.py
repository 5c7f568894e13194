"""The manifest: the union of what all runners bring, and never lost."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest
from bench.store.damaged import DamagedFile
from bench.store.study_status import read_manifest
from models.registry import load_file

spec = load_file(Path(__file__).parents[1] / "toy_cells.py").spec


class ToySpec:
    """A toy cell's spec under an id of one letter."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self.id, self.threads = name, threads

    def to_json(self) -> dict[str, Any]:
        return dict(spec("toy", threads=self.threads).to_json())


def bring(study: Path, names: list[str]) -> None:
    manifest.merge(study, [ToySpec(name) for name in names])


def test_a_study_begins_with_its_manifest_and_the_cells_specs(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "quick"
    cards = {"tasks": {"toy": {"metric": "count"}}}
    made, damage = manifest.merge(
        study, [ToySpec("a"), ToySpec("b")], preset="quick", titles=cards, command={"seeds": [0]}
    )
    assert damage is None
    assert manifest.read(study) == made
    assert [cell["cell"] for cell in made.cells] == ["a", "b"]
    assert (made.study, made.preset, made.command) == ("quick", "quick", {"seeds": [0]})
    assert made.metric("toy") == "count"
    assert made.metric("other") is None
    assert json.loads(manifest.cell_folder(study, "b").spec_path.read_text()) == ToySpec("b").to_json()


def test_merging_keeps_what_is_there(tmp_path: Path) -> None:
    manifest.merge(tmp_path, [ToySpec("a"), ToySpec("b")], titles={"tasks": {"toy": {"metric": "count"}}})
    before = manifest.read(tmp_path)
    merged, _ = manifest.merge(tmp_path, [ToySpec("c"), ToySpec("a", threads=2)], titles={"methods": {"m": {}}})
    assert [cell["cell"] for cell in merged.cells] == ["a", "b", "c"]
    assert merged.cells[0]["threads"] == 2
    assert merged.titles == {"tasks": {"toy": {"metric": "count"}}, "methods": {"m": {}}}
    assert merged.created == before.created


def test_merging_the_same_again_writes_nothing(tmp_path: Path) -> None:
    bring(tmp_path, ["a"])
    before = manifest.manifest_path(tmp_path).stat().st_mtime_ns
    bring(tmp_path, ["a"])
    assert manifest.manifest_path(tmp_path).stat().st_mtime_ns == before


def test_runners_that_start_together_lose_no_cell(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    runners = [
        context.Process(target=bring, args=(tmp_path, [f"{number}-{cell}" for cell in range(5)])) for number in range(6)
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
        assert runner.exitcode == 0
    assert len(manifest.read(tmp_path).cells) == 30


@pytest.mark.slow
def test_a_killed_merge_leaves_a_whole_manifest_or_none(tmp_path: Path, killed_at_every_line: Any) -> None:
    def prepare(number: int) -> Path:
        study = tmp_path / str(number)
        bring(study, ["a"])
        return study

    for study, finished in killed_at_every_line(prepare, lambda study: bring(study, ["b"])):
        names = [cell["cell"] for cell in manifest.read(study).cells]
        assert names in (["a"], ["a", "b"])
        assert names == ["a", "b"] or not finished
        bring(study, ["b"])
        assert [cell["cell"] for cell in manifest.read(study).cells] == ["a", "b"]
        assert manifest.cell_folder(study, "b").spec_path.exists()
        assert not list(study.glob(".*"))


@pytest.mark.parametrize("content", ["", '{"version": 1, "study"', "[]", '{"version": 1}', '{"version": 99}'])
def test_a_damaged_manifest_is_named_set_aside_and_made_again(tmp_path: Path, content: str) -> None:
    study = tmp_path / "quick"
    bring(study, ["a", "b"])
    manifest.manifest_path(study).write_text(content)
    with pytest.raises(DamagedFile, match=r"quick/manifest\.json is damaged"):
        manifest.read(study)
    merged, damage = manifest.merge(study, [ToySpec("c")])
    assert damage is not None
    assert [cell["cell"] for cell in merged.cells] == ["a", "b", "c"]
    assert (study / "manifest.damaged-1.json").read_text() == content


def test_a_missing_manifest_is_made_again_from_the_cells(tmp_path: Path) -> None:
    bring(tmp_path, ["a", "b"])
    manifest.manifest_path(tmp_path).unlink()
    manifest.cell_folder(tmp_path, "b").spec_path.write_text("{")
    with pytest.raises(FileNotFoundError):
        manifest.read(tmp_path)
    merged, _ = manifest.merge(tmp_path, [ToySpec("c")])
    assert [cell["cell"] for cell in merged.cells] == ["a", "c"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.update(titles={}), "titles.(methods|tasks) is missing"),
        (lambda data: data["titles"].update(tasks=None), "titles.tasks is missing"),
        (lambda data: data["titles"].update(presets=[]), "titles.presets"),
        (lambda data: data["titles"]["tasks"].update(toy="bpb"), "titles.tasks.toy"),
        (lambda data: data.update(command=None), "command"),
        (lambda data: data.update(cells={}), "cells is"),
        (lambda data: data["cells"].append("a"), r"cells\[1\] is"),
        (lambda data: data["cells"][0].pop("cell"), r"cells\[0\]\.cell is missing"),
        (lambda data: data["cells"][0].pop("method"), r"cells\[0\]\.method is missing"),
        (lambda data: data["cells"][0].update(seed="one"), r"cells\[0\]\.seed is 'one'"),
        (lambda data: data["cells"][0].update(seed=1.5), r"cells\[0\]\.seed"),
        (lambda data: data["cells"][0].update(seed=True), r"cells\[0\]\.seed"),
        (lambda data: data["cells"][0].update(train=None), r"cells\[0\]\.train"),
        (lambda data: data["cells"][0].update(task_data={"path": "ab"}), r"task_settings\.path is missing"),
        (lambda data: data["cells"][0].update(plugins=[{"kind": "task"}]), r"cells\[0\]\.plugins\.id"),
        (lambda data: data["cells"][0].update(plugins=["a"]), r"cells\[0\]\.plugins"),
    ],
)
def test_a_manifest_of_another_shape_is_damaged_and_the_cells_speak_for_it(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    study = tmp_path / "quick"
    manifest.merge(study, [ToySpec("a")], titles={"tasks": {"toy": {"metric": "count"}}})
    whole = manifest.read(study)
    data = json.loads(manifest.manifest_path(study).read_text())
    change(data)
    manifest.manifest_path(study).write_text(json.dumps(data))
    with pytest.raises(DamagedFile, match=rf"quick/manifest\.json is damaged: it is not a manifest \(.*{named}"):
        manifest.read(study)
    found, lines = read_manifest(study)
    assert found.cells == whole.cells
    assert len(lines) == 1
    manifest.merge(study, [ToySpec("a")])
    assert manifest.read(study).cells == whole.cells


def test_specs_that_cannot_speak_for_a_lost_manifest_are_named(tmp_path: Path) -> None:
    study = tmp_path / "quick"
    bring(study, ["a", "b", "c"])
    manifest.manifest_path(study).unlink()
    manifest.cell_folder(study, "b").spec_path.write_text("{")
    manifest.cell_folder(study, "c").spec_path.write_text(json.dumps({**ToySpec("c").to_json(), "seed": "x"}))
    found, lines = read_manifest(study)
    assert [cell["cell"] for cell in found.cells] == ["a"]
    assert [line.partition(" is ")[0] for line in lines] == ["quick/manifest.json", "b/spec.json", "c/spec.json"]
    assert "seed is 'x'" in lines[2]
