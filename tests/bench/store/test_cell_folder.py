"""A cell's folder: nothing that was measured is ever lost, wherever a process is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.store import attempt
from bench.store.cell_folder import CellFolder
from bench.store.damaged import DamagedFile
from bench.store.result import Result, Row
from bench.store.statuses import Status

ROWS = [Row("bpb", 1.5, "bits/byte", "test")]


def record(step: int) -> dict[str, Any]:
    return {"step": step, "metric": "train_loss", "value": 0.5, "split": "train", "seconds": 1.0 * step}


def finished_cell(path: Path, status: Status = Status.ERROR) -> CellFolder:
    """A cell whose first attempt ended with `status`."""
    folder = CellFolder(path)
    folder.create({"task": "toy"})
    attempt.note(folder, "code", {"torch": "2"})
    folder.append([record(1), record(2)])
    folder.log_path.write_text("the first attempt's log")
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.ckpt").write_bytes(b"weights")
    folder.write_result(Result(folder.cell, status, "of the first attempt", rows=ROWS))
    return folder


def test_a_result_is_there_only_when_it_was_written(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "a")
    folder.create({"task": "toy"})
    assert folder.result() is None
    assert not folder.started()
    folder.write_result(Result("a", Status.OK, rows=ROWS))
    written = folder.result()
    assert written is not None
    assert written.status is Status.OK


def test_a_killed_write_of_a_result_leaves_none_or_all_of_it(tmp_path: Path, killed_at_every_line: Any) -> None:
    def prepare(number: int) -> CellFolder:
        folder = CellFolder(tmp_path / f"cell-{number}")
        folder.create({"task": "toy"})
        folder.append([record(1)])
        return folder

    for folder, finished in killed_at_every_line(
        prepare, lambda folder: folder.write_result(Result(folder.cell, Status.OK, rows=ROWS))
    ):
        result = folder.result()
        assert result is None or result.status is Status.OK
        assert result is not None or not finished


def test_another_cells_result_is_refused_and_is_damage_where_it_lies(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "a")
    folder.create({})
    with pytest.raises(ValueError, match="b"):
        folder.write_result(Result("b", Status.OK, rows=ROWS))
    folder.result_path.write_text(json.dumps(Result("b", Status.OK, rows=ROWS).to_json()))
    with pytest.raises(DamagedFile, match="it is the result of b"):
        folder.result()


def test_a_fresh_attempt_moves_everything_but_the_cell_itself(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.lock_path.touch()
    kept = folder.archive_attempt(keep_checkpoints=False)
    assert sorted(path.name for path in folder.path.iterdir()) == ["attempts", "lock", "spec.json"]
    assert sorted(path.name for path in kept.iterdir()) == [
        "attempt.json",
        "checkpoints",
        "log.txt",
        "metrics.jsonl",
        "result.json",
    ]
    assert folder.attempt() == 2
    assert folder.result() is None
    assert not folder.started()


def test_an_attempt_that_goes_on_keeps_all_but_its_result(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a", Status.TIMEOUT)
    kept = folder.archive_attempt(keep_checkpoints=True)
    assert [path.name for path in kept.iterdir()] == ["result.json"]
    assert (folder.checkpoints / "last.ckpt").exists()
    assert len(folder.records()) == 2
    assert folder.attempt() == 2


@pytest.mark.slow
@pytest.mark.parametrize("keep_checkpoints", [False, True])
def test_a_killed_move_is_completed_and_counts_as_no_result(
    tmp_path: Path, killed_at_every_line: Any, keep_checkpoints: bool
) -> None:
    def measured(folder: CellFolder) -> set[bytes]:
        files = (path for path in folder.path.rglob("*") if path.is_file() and "moving.json" not in path.name)
        return {path.read_bytes() for path in files}

    states = set()
    for folder, _ in killed_at_every_line(
        lambda number: finished_cell(tmp_path / f"cell-{number}"),
        lambda folder: folder.archive_attempt(keep_checkpoints),
    ):
        before = measured(finished_cell(tmp_path / "untouched" / folder.cell))
        # The times of two attempts differ by when they were made.
        assert len(measured(folder)) == len(before)
        begun = folder.result_digest() is None
        states.add(begun)
        folder.finish_archive()
        assert (folder.result() is None) == begun
        if begun:
            kept = folder.attempts / "1"
            assert json.loads((kept / "result.json").read_text())["reason"] == "of the first attempt"
            assert (kept / "checkpoints" / "last.ckpt").exists() != keep_checkpoints
            assert (folder.checkpoints / "last.ckpt").exists() == keep_checkpoints
            assert folder.attempt() == 2
        else:
            assert (folder.checkpoints / "last.ckpt").exists()
            assert len(folder.records()) == 2
    assert states == {False, True}


def test_a_move_whose_note_was_damaged_starts_afresh_and_loses_nothing(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.attempts.mkdir()
    (folder.attempts / "moving.json").write_text("{")
    assert folder.result() is None
    folder.finish_archive()
    assert (folder.attempts / "1" / "result.json").exists()
    assert (folder.attempts / "1" / "checkpoints" / "last.ckpt").exists()
    assert not folder.checkpoints.exists()


def test_truncating_keeps_what_is_measured_again(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    assert folder.truncate_after(1) == 1
    assert [item["step"] for item in folder.records()] == [1]
    assert folder.truncate_after(1) == 0
    assert '"step": 2' in (folder.attempts / "repeated.jsonl").read_text()


def test_a_spec_is_written_again_only_where_it_differs(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "a")
    folder.create({"seed": 0})
    before = folder.spec_path.stat().st_mtime_ns
    folder.create({"seed": 0})
    assert folder.spec_path.stat().st_mtime_ns == before
    folder.spec_path.write_text("{")
    folder.create({"seed": 0})
    assert json.loads(folder.spec_path.read_text()) == {"seed": 0}
