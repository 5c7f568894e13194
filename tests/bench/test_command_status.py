"""`python -m bench status`: every cell's state and why, counts, and exit codes, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.spec import CellSpec
from bench.store import manifest
from bench.store.claim import claim
from bench.store.fingerprint import cell_fingerprint
from bench.store.result import Result, Row
from bench.store.statuses import Status


def cells(number: int) -> list[CellSpec]:
    return [
        CellSpec("enwik8", "enwik8-4M", 1, {}, "lstm", "", {}, "reference", {}, {}, {}, "32-true", seed)
        for seed in range(number)
    ]


def study(folder: Path, *statuses: Status | None) -> list[CellSpec]:
    """A study whose cells have these statuses; None for a cell that was not started."""
    specs = cells(len(statuses))
    manifest.merge(folder, specs, titles={"tasks": {"enwik8": {"metric": "bpb"}}})
    for spec, status in zip(specs, statuses, strict=True):
        if status is not None:
            rows = [Row("bpb", 2.5, "bits/byte", "test", higher_is_better=False)] if status is Status.OK else []
            reason = "" if status is Status.OK else "because of this"
            result = Result(spec.id, status, reason, rows=rows, seconds=3.0)
            manifest.cell_folder(folder, spec.id).write_result(result)
    return specs


def test_table_shows_status_result_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = study(tmp_path / "made", Status.OK, Status.ERROR, None)
    assert main(["status", str(tmp_path / "made")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [specs[0].id, "ok", "3", "s", "bpb", "2.5", "(test)"]
    assert lines[2].split() == [specs[1].id, "error", "3", "s", "because", "of", "this"]
    assert lines[3].split() == [specs[2].id, "pending"]
    assert json.loads(lines[-1]) == {
        "study": "made",
        "cells": 3,
        "counts": {"ok": 1, "error": 1, "pending": 1},
        "report": None,
        "stale": 0,
    }


def test_results_of_other_code_are_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, before, unknown = study(tmp_path / "made", Status.OK, Status.OK, Status.OK)
    for spec, code in ((now, cell_fingerprint(now.to_json())), (before, "0" * 64)):
        folder = manifest.cell_folder(tmp_path / "made", spec.id)
        result = folder.result()
        assert result is not None
        folder.write_result(replace(result, provenance={"fingerprint": code}))
    assert main(["status", str(tmp_path / "made")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert unknown.id in lines[3]
    assert [line.split()[1:3] for line in lines[1:4]] == [["ok", "3"], ["ok", "(stale)"], ["ok", "3"]]
    assert lines[-2] == "1 of other code than today's (stale); `run --retry stale` runs them again"
    assert json.loads(lines[-1])["stale"] == 1


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([Status.OK, None], 0),
        ([Status.OK, Status.UNSUPPORTED], 0),
        ([Status.OK, Status.OOM], 1),
        ([Status.DIVERGED], 1),
        ([Status.TIMEOUT], 1),
    ],
)
def test_exit_code_is_1_where_something_failed(tmp_path: Path, statuses: list[Status | None], code: int) -> None:
    study(tmp_path / "made", *statuses)
    assert main(["status", str(tmp_path / "made")]) == code


def test_running_cell_shows_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec,) = study(tmp_path / "made", None)
    folder = manifest.cell_folder(tmp_path / "made", spec.id)
    held = claim(folder)
    assert held is not None
    held.progress("train", 1200, 5000)
    held._beat.write(folder.heartbeat_path)
    try:
        command = [sys.executable, "-m", "bench", "status", str(tmp_path / "made")]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        held.release()
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == [spec.id, "running", "train", "1,200", "of", "5,000"]
    assert json.loads(done.stdout.splitlines()[-1])["counts"] == {"running": 1}


def test_damaged_result_is_named_and_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec,) = study(tmp_path / "made", Status.OK)
    manifest.cell_folder(tmp_path / "made", spec.id).result_path.write_text("{")
    assert main(["status", "--quiet", str(tmp_path / "made")]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["counts"] == {"damaged": 1}
    assert "result.json" in printed.err


def test_folder_in_a_results_place_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec,) = study(tmp_path / "made", None)
    path = manifest.cell_folder(tmp_path / "made", spec.id).result_path
    path.mkdir()
    assert main(["status", str(tmp_path / "made")]) == 2
    assert capsys.readouterr().err == f"bench status: {path}: Is a directory.\n"


def test_report_that_was_built_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path / "made", Status.OK)
    (tmp_path / "made" / "report").mkdir()
    for name in ("report.md", "rows.csv"):
        (tmp_path / "made" / "report" / name).write_text("")
    assert main(["status", "--quiet", str(tmp_path / "made")]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(tmp_path / "made" / "report" / "report.md")


def test_no_such_study_is_exit_code_2_and_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path / "quick", None)
    assert main(["status", str(tmp_path / "quik")]) == 2
    assert "there is no study. Did you mean quick?" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "none" / "x")]) == 2


def test_neither_torch_nor_pandas_is_imported(tmp_path: Path, checkout: Path) -> None:
    study(tmp_path / "made", Status.OK, None)
    code = (
        "import sys; from bench.__main__ import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'pytorch_lightning', 'jsonargparse', 'numpy', 'pandas', 'yaml', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", code, "status", str(tmp_path / "made")]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
