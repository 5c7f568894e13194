"""The manifest: the union of what all runners bring, and never lost."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest
from bench.store.damaged import DamagedFile


class ToySpec:
    def __init__(self, name: str, threads: int = 1) -> None:
        self.id, self.threads = name, threads

    def to_json(self) -> dict[str, Any]:
        return {"task": "toy", "threads": self.threads}


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
