"""Beginning an attempt: what is gone on from, what starts afresh, and what is said of it later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.store import attempt
from bench.store.cell_folder import CellFolder
from bench.store.result import Result, Row
from bench.store.statuses import Status
from models.registry import load_file

finished_cell = load_file(Path(__file__).with_name("test_cell_folder.py")).finished_cell


def test_a_new_cell_begins_afresh(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "a")
    folder.create({})
    assert attempt.begin(folder, None) == []
    noted = attempt.note(folder, "code", {"torch": "2"})
    assert noted.fresh
    assert (noted.attempt, noted.processes, noted.seconds_before) == (1, 1, 0.0)
    assert attempt.read(folder) == noted


def test_an_interrupted_cell_goes_on(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.result_path.unlink()
    with open(folder.metrics_path, "ab") as file:
        file.write(b'{"step": 3, "half')
    assert attempt.begin(folder, None) == []
    noted = attempt.note(folder, "code", {})
    assert not noted.fresh
    assert (noted.attempt, noted.processes, noted.seconds_before) == (1, 2, 2.0)
    assert folder.metrics_path.read_bytes().endswith(b"}\n")
    assert noted.fingerprint == "code"


def test_a_result_that_nobody_asked_to_replace_stays(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    digest = folder.result_digest()
    assert attempt.begin(folder, None) is None
    assert attempt.begin(folder, "that of an earlier result") is None
    assert folder.result_digest() == digest


@pytest.mark.parametrize("status", [Status.ERROR, Status.OOM, Status.DIVERGED, Status.OK])
def test_a_replaced_result_is_kept_and_its_cell_starts_afresh(tmp_path: Path, status: Status) -> None:
    folder = finished_cell(tmp_path / "a", status)
    assert attempt.begin(folder, folder.result_digest()) == []
    assert attempt.note(folder, "code", {}).fresh
    assert not folder.checkpoints.exists()
    assert (folder.attempts / "1" / "result.json").exists()


def test_a_replaced_timeout_goes_on(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a", Status.TIMEOUT)
    assert attempt.begin(folder, folder.result_digest()) == []
    noted = attempt.note(folder, "code", {})
    assert not noted.fresh
    assert noted.attempt == 2
    assert folder.checkpoints.exists()


def test_a_cell_whose_process_died_goes_on(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.write_result(Result("a", Status.ERROR, "killed by SIGKILL", died=True))
    assert attempt.begin(folder, folder.result_digest()) == []
    assert not attempt.note(folder, "code", {}).fresh
    assert (folder.checkpoints / "last.ckpt").read_bytes() == b"weights"
    assert len(folder.records()) == 2
    assert (folder.attempts / "1" / "result.json").exists()


def test_a_timeout_of_other_code_starts_afresh(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a", Status.TIMEOUT)
    assert attempt.begin(folder, folder.result_digest(), afresh=True) == []
    assert attempt.note(folder, "new code", {}).fingerprint == "new code"
    assert not folder.checkpoints.exists()


def test_a_damaged_result_is_kept_and_its_cell_goes_on(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.result_path.write_text('{"cell": "a", "sta')
    remarks = attempt.begin(folder, folder.result_digest())
    assert remarks is not None
    assert "a/result.json is damaged" in remarks[0]
    assert not attempt.note(folder, "code", {}).fresh
    assert (folder.attempts / "1" / "result.json").read_text() == '{"cell": "a", "sta'


def test_metrics_that_cannot_be_believed_mean_a_fresh_start(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.result_path.unlink()
    folder.metrics_path.write_bytes(b"\0\0\0\n" + folder.metrics_path.read_bytes())
    remarks = attempt.begin(folder, None)
    assert remarks is not None
    assert "a/metrics.jsonl is damaged" in remarks[0]
    assert attempt.note(folder, "code", {}).fresh
    assert (folder.attempts / "1" / "metrics.jsonl").read_bytes().startswith(b"\0\0\0\n")
    assert not folder.checkpoints.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("status", "fresh"), [(Status.ERROR, True), (Status.TIMEOUT, False)])
def test_a_killed_beginning_is_begun_again_to_the_same_end(
    tmp_path: Path, killed_at_every_line: Any, status: Status, fresh: bool
) -> None:
    def prepare(number: int) -> tuple[CellFolder, str]:
        folder = finished_cell(tmp_path / f"cell-{number}", status)
        return folder, folder.result_digest()

    def begin(prepared: tuple[CellFolder, str]) -> None:
        attempt.begin(*prepared)
        attempt.note(prepared[0], "code", {})

    for (folder, digest), _ in killed_at_every_line(prepare, begin):
        assert attempt.begin(folder, digest) == []
        noted = attempt.note(folder, "code", {})
        assert noted.attempt == 2
        assert folder.checkpoints.exists() != fresh
        assert (folder.attempts / "1" / "result.json").exists()
        assert not (folder.attempts / "2").exists()


def test_code_that_changed_on_the_way_gives_a_fingerprint_that_no_code_has(tmp_path: Path) -> None:
    folder = CellFolder(tmp_path / "a")
    folder.create({})
    attempt.note(folder, "old", {})
    attempt.note(folder, "new", {})
    noted = attempt.note(folder, "new", {})
    assert noted.fingerprints == ["old", "new"]
    assert noted.fingerprint not in (None, "old", "new")
    result = noted.complete(Result("a", Status.ERROR), 1.0)
    assert result.provenance["fingerprints"] == ["old", "new"]
    assert result.provenance["fingerprint"] == noted.fingerprint


def test_a_result_is_completed_with_what_the_cell_left_out(tmp_path: Path) -> None:
    noted = attempt.Attempt(2, "2026-01-01T00:00:00+00:00", 2, 10.0, ["code"], {"torch": "2", "device": "cpu"})
    row = Row("bpb", 1.0, "bits/byte", "test")
    result = noted.complete(Result("a", Status.OK, rows=[row], provenance={"device": "gpu"}), 5.0)
    assert result.provenance == {"torch": "2", "device": "gpu", "fingerprint": "code"}
    assert (result.attempt, result.started, result.seconds) == (2, noted.started, 15.0)
    assert result.rows == [row]


def test_an_attempt_note_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    folder = finished_cell(tmp_path / "a")
    folder.attempt_path.write_text("{")
    assert attempt.read(folder) is None
    assert attempt.note(folder, "code", {}).processes == 1
