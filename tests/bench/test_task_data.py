"""A text of the user's own: its content decides which cell it is, and is what the cell reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.executors import process
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.store import manifest
from bench.store.cell_folder import CellFolder
from bench.study import plan
from bench.task_data import check_data
from models.errors import SettingsError

CONFIG = """
about: a study of one cell
tasks:
  enwik8:
    backbone: {layers: 1, width: 16, feedforward: 16, heads: 2}
    train: {steps: 8, batch_size: 2, block_length: 8, validate_every: 4, checkpoint_every: 2}
    trainer: {accelerator: cpu}
    methods:
      transformer_xl: {memory_length: 8}
"""
Planner = Callable[[str | Path], CellSpec]


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    """Plans one cell on a text at a path."""
    (tmp_path / "made.yaml").write_text(CONFIG)

    def run(text: str | Path) -> CellSpec:
        config = read(tmp_path / "made.yaml", "made.yaml")
        return plan(config, name="made", assignments=[f"task.enwik8.path={text}"]).cells[0]

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes(bytes(range(256)) * 16)
    return path


def stored(spec: CellSpec, study: Path) -> CellSpec:
    """The cell as a study's folder gives it back."""
    manifest.merge(study, [spec])
    path = manifest.cell_folder(study, spec.id).spec_path
    return CellSpec.from_json(json.loads(path.read_text()), path)


def test_the_id_is_of_the_content_wherever_the_text_lies(
    planner: Planner, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planner(text)
    copy = tmp_path / "elsewhere" / "corpus.txt"
    copy.parent.mkdir()
    copy.write_bytes(text.read_bytes())
    monkeypatch.chdir(copy.parent)
    for same in (planner(copy), planner("corpus.txt"), planner("../corpus.txt"), stored(first, tmp_path / "study")):
        assert (same.id, same.digest) == (first.id, first.digest)
    assert planner("corpus.txt").task_settings["path"] == str(copy), "absolute: a cell has another working folder"


def test_another_content_at_the_same_path_is_another_cell(planner: Planner, text: Path) -> None:
    before = planner(text)
    text.write_bytes(text.read_bytes()[::-1])
    after = planner(text)
    assert before.task_settings == after.task_settings
    assert before.id != after.id


def test_a_text_that_has_changed_or_gone_is_refused_by_key(planner: Planner, text: Path, tmp_path: Path) -> None:
    spec = planner(text)
    found = stored(spec, tmp_path / "study").located(tmp_path / "study")
    assert found == spec
    check_data(found)
    content = text.read_bytes()
    text.write_bytes(content[:-1] + b"!")
    with pytest.raises(SettingsError, match=r"task\.enwik8\.path \(in spec\.json\): corpus\.txt is not the file"):
        check_data(found, "spec.json")
    text.unlink()
    with pytest.raises(SettingsError, match=r"--set task\.enwik8\.path=FILE"):
        check_data(found)


def test_a_cell_whose_text_has_changed_is_not_trained(planner: Planner, text: Path, tmp_path: Path) -> None:
    from bench.cell import run_cell

    spec = planner(text)
    folder = CellFolder(tmp_path / "study" / "cells" / spec.id)
    folder.create(spec.to_json())
    text.write_bytes(text.read_bytes()[::-1])
    result = run_cell(spec, folder, None, True)
    assert result.status == "error"
    assert "task.enwik8.path" in result.reason
    assert not folder.metrics_path.exists()


def test_an_interrupted_cell_does_not_go_on_in_another_text(
    planner: Planner, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = planner(text)
    manifest.merge(tmp_path / "study", [spec])
    folder = manifest.cell_folder(tmp_path / "study", spec.id)
    first = process.run_here(folder, spec)
    assert first is not None
    assert first.status == "ok", first.traceback
    folder.result_path.unlink()  # as if it had been killed at its end
    content = text.read_bytes()
    text.write_bytes(content[::-1])
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert main(["cell", str(folder.spec_path)]) == 2
    assert "corpus.txt is not the file that the cell was made with" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    text.write_bytes(content)
    assert main(["cell", str(folder.spec_path)]) == 0
    assert "going on from step 8" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"path": 3}, {"pth": "ab"}, ["path"], None])
def test_a_stored_spec_with_other_data_is_refused(planner: Planner, text: Path, change: Any) -> None:
    content = {**planner(text).to_json(), "task_data": change}
    with pytest.raises(SettingsError, match="task_data"):
        CellSpec.from_json(content)


def test_a_path_that_is_none_of_the_users_files_counts_by_its_value(planner: Planner, text: Path) -> None:
    spec = planner(text)
    one, other = (replace(spec, task_settings={**spec.task_settings, "data": data}) for data in ("excerpt", "full"))
    assert one.id != other.id
