"""Files are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.store import atomic


def test_a_killed_write_leaves_the_old_content_or_the_new(tmp_path: Path, killed_at_every_line: Any) -> None:
    def prepare(number: int) -> Path:
        path = tmp_path / str(number) / "file.json"
        path.parent.mkdir()
        atomic.write_json(path, {"value": "old"})
        return path

    seen = set()
    for path, finished in killed_at_every_line(prepare, lambda path: atomic.write_json(path, {"value": "new"})):
        seen.add(json.loads(path.read_text())["value"])
        assert not finished or json.loads(path.read_text()) == {"value": "new"}
        atomic.remove_unfinished(path.parent)
        assert os.listdir(path.parent) == ["file.json"]
    assert seen == {"old", "new"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_json_are_refused_before_anything_is_touched(tmp_path: Path, number: float) -> None:
    path = tmp_path / "file.json"
    atomic.write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(path, {"value": number})
    assert json.loads(path.read_text()) == {"value": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        atomic.write_bytes(tmp_path / "file", b"content")
    assert os.listdir(tmp_path) == ["file"]


def test_folders_are_made_with_their_parents_and_may_exist(tmp_path: Path) -> None:
    atomic.make_folder(tmp_path / "a" / "b" / "c")
    atomic.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
