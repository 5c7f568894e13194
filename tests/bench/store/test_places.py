"""Where the user's files lie: told to nobody, and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest, places
from bench.store.cell_folder import CellFolder
from bench.store.fingerprint import Today
from models.checkout import CHECKOUT
from models.registry import load_file

toy_spec = load_file(Path(__file__).parents[1] / "toy_cells.py").spec
TEXT, PLUGIN = "ab" * 32, "cd" * 32


def spec(text: str, plugin: str) -> dict[str, Any]:
    """A located or portable spec with these paths."""
    return {
        **toy_spec("toy").to_json(),
        "task": "enwik8",
        "task_settings": {"data": "excerpt", "path": text},
        "task_data": {"path": TEXT},
        "method": "mine",
        "plugins": [{"kind": "method", "id": "mine", "path": plugin, "sha256": PLUGIN}],
    }


class LocatedSpec:
    def __init__(self, content: dict[str, Any]) -> None:
        self.id, self.content = "a", content

    def to_json(self) -> dict[str, Any]:
        return self.content


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A located spec whose files are there."""
    home = tmp_path / "alice" / "work"
    home.mkdir(parents=True)
    (home / "corpus.txt").write_text("a text")
    (home / "mine.py").write_text("CARD = {}")
    return spec(str(home / "corpus.txt"), str(home / "mine.py"))


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/srv/alice/corpus.txt", "corpus.txt"),
        ("../alice/corpus.txt", "corpus.txt"),
        (f"{CHECKOUT}/data/../../alice/corpus.txt", "corpus.txt"),
        (f"{CHECKOUT}/data/corpus.txt", "data/corpus.txt"),
        ("data/corpus.txt", "data/corpus.txt"),
        ("corpus.txt", "corpus.txt"),
    ],
)
def test_a_portable_spec_knows_paths_in_the_checkout_and_names_of_other_files(path: str, shared: str) -> None:
    assert places.portable(spec(path, path)) == spec(shared, shared)


def test_a_spec_without_files_stays_as_it_is() -> None:
    for content in ({}, {"task": "toy", "task_settings": {"path": "/srv/alice"}, "plugins": [], "task_data": {}}):
        assert places.portable(content) == content
        assert places.located(content, Path("/nowhere")) == content


def test_a_stored_study_finds_its_files_again_and_tells_nobody_where(tmp_path: Path, files: dict[str, Any]) -> None:
    study = tmp_path / "study"
    manifest.merge(study, [LocatedSpec(files)])
    stored = manifest.read(study).cells[0]
    assert stored == spec("corpus.txt", "mine.py") | {"cell": "a"}
    assert places.located(stored, study) == files | {"cell": "a"}
    shared = [path for path in study.rglob("*") if path.is_file() and path.name != "local.json"]
    assert len(shared) == 3
    assert not any("alice" in path.read_text() for path in shared)
    CellFolder(study / "cells" / "a").create(files)
    assert "alice" not in (study / "cells" / "a" / "spec.json").read_text()


def test_a_plugins_code_is_found_to_say_whether_a_result_is_stale(tmp_path: Path, files: dict[str, Any]) -> None:
    study = tmp_path / "study"
    manifest.merge(study, [LocatedSpec(files)])
    stored = manifest.read(study).cells[0]
    before = Today(study)(stored)
    Path(files["plugins"][0]["path"]).write_text("CARD = {'other': 1}")
    assert Today(study)(stored) != before
    places.places_path(study).unlink()
    with pytest.raises(FileNotFoundError):
        Today(study)(stored)


def test_a_file_that_moved_is_found_where_it_was_seen_last(tmp_path: Path, files: dict[str, Any]) -> None:
    study = tmp_path / "study"
    manifest.merge(study, [LocatedSpec(files)])
    moved = tmp_path / "moved.txt"
    Path(files["task_settings"]["path"]).rename(moved)
    assert places.located(spec("corpus.txt", "mine.py"), study)["task_settings"]["path"] == "corpus.txt"
    manifest.merge(study, [LocatedSpec(spec(str(moved), files["plugins"][0]["path"]))])
    assert places.located(spec("corpus.txt", "mine.py"), study)["task_settings"]["path"] == str(moved)
    assert places.read(study)[TEXT] == [str(moved), files["task_settings"]["path"]], "another machine's may be there"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": []}', '{"files": {"ab": 3}}'])
def test_a_damaged_note_of_places_is_written_anew(tmp_path: Path, files: dict[str, Any], content: str) -> None:
    places.places_path(tmp_path).write_text(content)
    assert places.read(tmp_path) == {}
    places.note(tmp_path, [files])
    assert places.located(spec("corpus.txt", "mine.py"), tmp_path) == files


def test_a_file_in_the_checkout_is_found_without_a_note(tmp_path: Path) -> None:
    found = places.located(spec("README.md", "absent.py"), tmp_path)
    assert found == spec(str(CHECKOUT / "README.md"), "absent.py")


def test_no_commit_takes_the_note_in() -> None:
    assert "/docs/results/*/local.json" in (CHECKOUT / ".gitignore").read_text().splitlines()
