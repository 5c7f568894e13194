"""A study keeps its preset, and what judges it: where the flag is forgotten, and where another one is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.store import manifest

CONFIG = """
about: one small cell
tasks:
  enwik8:
    backbone: {layers: 1, width: 16, feedforward: 16, heads: 2}
    train: {steps: 4, batch_size: 2, block_length: 8}
    methods: {transformer_xl: {memory_length: 8}}
"""


def dry_run(out: Path, *flags: str) -> int:
    only = ["--tasks", "enwik8", "--methods", "transformer_xl", "--seeds", "0"]
    return main(["run", "--dry-run", "--out", str(out), *only, *flags])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A study of preset small."""
    assert dry_run(tmp_path / "mine", "--preset", "small") == 0
    return tmp_path / "mine"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def test_forgotten_preset_is_the_studys_own(small: Path) -> None:
    assert dry_run(small, "--seeds", "1") == 0
    cells = manifest.read(small).cells
    assert [(cell["seed"], cell["preset"], cell["train"]["steps"]) for cell in cells] == [
        (0, "small", 1400),
        (1, "small", 1400),
    ]


def test_forgotten_preset_is_found_without_a_manifest(small: Path) -> None:
    manifest.manifest_path(small).unlink()
    assert dry_run(small, "--seeds", "1") == 0
    assert {cell["preset"] for cell in manifest.read(small).cells} == {"small"}


def test_another_preset_is_refused_and_changes_nothing(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = manifest.manifest_path(small).read_bytes()
    assert dry_run(small, "--preset", "quick") == 2
    error = capsys.readouterr().err
    assert f"--preset: {small} is a study of preset small. To go on with it, leave out --preset" in error
    assert "another --out" in error
    assert manifest.manifest_path(small).read_bytes() == before


def test_its_own_preset_may_be_named_again(small: Path) -> None:
    assert dry_run(small, "--preset", "small") == 0


def test_a_file_in_place_of_its_preset_is_refused(
    small: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(small, "--config", str(config)) == 2
    assert f"--config: {small} is a study of preset small" in capsys.readouterr().err


def test_a_study_of_a_file_asks_for_it_again(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine"
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG)
    assert dry_run(out, "--config", str(config)) == 0
    assert dry_run(out, "--config", str(config), "--seeds", "1") == 0
    for flags, key in (([], "--out"), (["--preset", "quick"], "--preset"), (["--config", str(other)], "--config")):
        capsys.readouterr()
        assert dry_run(out, *flags) == 2
        assert f"{key}: {out} is a study of the file tiny.yaml. To go on with it, give --config tiny.yaml again" in (
            capsys.readouterr().err
        )


def test_the_folder_of_the_default_preset_does_not_choose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dry_run(Path("runs") / "quick", "--preset", "small") == 0
    assert main(["run", "--dry-run"]) == 2
    assert "--preset: runs/quick is a study of preset small" in capsys.readouterr().err


def test_a_new_study_without_flags_is_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(tmp_path / "new") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cells"] == 1
    assert manifest.read(tmp_path / "new").preset == "quick"


def test_a_study_that_validation_judges_is_not_shown_by_its_test(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(small, "--set", "judged_by=validation") == 0, "a study may become one that chooses"
    before = manifest.manifest_path(small).read_bytes()
    assert dry_run(small, "--seeds", "1") == 2
    error = capsys.readouterr().err
    assert "judged_by: is test, but" in error
    assert "Add --set judged_by=validation" in error
    assert manifest.manifest_path(small).read_bytes() == before
    assert dry_run(small, "--seeds", "1", "--set", "judged_by=validation") == 0
