"""metrics.jsonl: appended to, cut where a kill left half a line, never believed when damaged."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from bench.store import metrics
from bench.store.damaged import DamagedFile


def record(step: int, **other: Any) -> dict[str, Any]:
    return {"step": step, "metric": "train_loss", "value": 0.5, "split": "train", "seconds": 1.0} | other


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [record(1), record(2)])
    metrics.append(path, [record(3, metric="validation_bpb", split="validation")])
    assert [item["step"] for item in metrics.read(path)] == [1, 2, 3]


def test_a_file_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert metrics.read(tmp_path / "metrics.jsonl") == []
    metrics.cut_half_line(tmp_path / "metrics.jsonl")
    metrics.sync(tmp_path / "metrics.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": None},
        {"value": True},
        {"step": 1.0},
        {"step": True},
        {"metric": 3},
        {"seconds": float("nan")},
    ],
)
def test_a_wrong_record_is_refused_and_none_of_its_batch_is_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ValueError, match=next(iter(wrong))):
        metrics.append(path, [record(1), record(2) | wrong])
    assert metrics.read(path) == []


def test_half_a_last_line_is_ignored_and_cut_off_when_the_cell_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [record(1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 2, "met')
    assert len(metrics.read(path)) == 1
    metrics.cut_half_line(path)
    assert path.read_bytes() == whole
    path.write_bytes(b'{"step"')
    metrics.cut_half_line(path)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("line", [b"{half", b"\0\0\0\0", b"", b"[]", b"\xff\xfe", b'{"step": 1}', b'{"step": 1e400}'])
def test_any_other_line_that_does_not_parse_makes_the_file_damaged(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [record(1)])
    path.write_bytes(path.read_bytes() + line + b"\n" + metrics.encode([record(3)]))
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl is damaged: line 2"):
        metrics.read(path)


def test_a_value_that_json_allows_but_is_not_finite_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(metrics.encode([record(1)]).replace(b"0.5", b"NaN"))
    with pytest.raises(DamagedFile, match="not finite"):
        metrics.read(path)


def test_truncating_keeps_the_records_it_takes_out(tmp_path: Path) -> None:
    path, kept = tmp_path / "metrics.jsonl", tmp_path / "attempts" / "repeated.jsonl"
    metrics.append(path, [record(step) for step in range(1, 6)])
    assert metrics.truncate_after(path, 5, kept) == 0
    assert not kept.exists()
    assert metrics.truncate_after(path, 3, kept) == 2
    assert [item["step"] for item in metrics.read(path)] == [1, 2, 3]
    assert [item["step"] for item in metrics.read(kept)] == [4, 5]


@pytest.mark.slow
def test_a_killed_truncation_loses_no_record(tmp_path: Path, killed_at_every_line: Any) -> None:
    def prepare(number: int) -> Path:
        folder = tmp_path / str(number)
        folder.mkdir()
        metrics.append(folder / "metrics.jsonl", [record(1), record(2), record(3)])
        return folder

    def truncate(folder: Path) -> None:
        metrics.truncate_after(folder / "metrics.jsonl", 1, folder / "attempts" / "repeated.jsonl")

    for folder, _ in killed_at_every_line(prepare, truncate):
        truncate(folder)
        assert [item["step"] for item in metrics.read(folder / "metrics.jsonl")] == [1]
        assert {item["step"] for item in metrics.read(folder / "attempts" / "repeated.jsonl")} == {2, 3}


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, [record(1)])
    size = path.stat().st_size
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="disk"):
            metrics.append(path, [record(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.stat().st_size == size
