"""A study read back: its status, its table, and what a run would do about it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from bench.store import attempt, manifest, resume
from bench.store.cell_folder import CellFolder
from bench.store.claim import claim
from bench.store.fingerprint import Today, cell_fingerprint
from bench.store.frame import COLUMNS, load
from bench.store.result import Result, Row
from bench.store.statuses import Status
from bench.store.study_status import study_status
from models.checkout import CHECKOUT
from models.errors import SettingsError
from models.registry import load_file

spec = load_file(Path(__file__).parents[1] / "toy_cells.py").spec
TITLES = {"tasks": {"toy": {"metric": "bpb"}}, "methods": {"toy": {"title": "A toy"}}}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with one cell of each kind; a cell's name is what its id begins with."""
    names = ["ok", "oom", "pending", "running", "interrupted", "damaged", "metrics"]
    manifest.merge(tmp_path / "quick", [spec(name) for name in names], titles=TITLES)
    study = tmp_path / "quick"
    rows = [
        Row("bpb", 1.5, "bits/byte", "test", n=1000, higher_is_better=False, context={"block_length": 32}),
        Row("train_loss", 1.0, "nats", "train"),
        Row("peak_bytes", None, "bytes", ""),
    ]
    origin = {"fingerprint": "old code", "commit": "abc", "dirty": False, "device": "a device", "device_memory": 10**10}
    finish(study, "ok", Status.OK, rows=rows, provenance=origin, seconds=2.5, attempt=1)
    finish(study, "oom", Status.OOM, "out of memory at batch 3", attempt=1)
    for name in ("interrupted", "metrics"):
        attempt.note(folder(study, name), "code", {})
    folder(study, "metrics").metrics_path.write_text("half\n")
    finish(study, "damaged", Status.OK, rows=rows)
    content = folder(study, "damaged").result_path.read_bytes()
    folder(study, "damaged").result_path.write_bytes(content[: len(content) // 2])
    return study


def folder(study: Path, name: str) -> CellFolder:
    return manifest.cell_folder(study, spec(name).id)


def finish(study: Path, name: str, status: Status, reason: str = "", **facts: Any) -> None:
    folder(study, name).write_result(Result(spec(name).id, status, reason, **facts))


def by_name(states: Any) -> dict[str, Any]:
    return {state.cell.split("--")[0]: state for state in states}


def test_the_status_of_every_cell_follows_from_its_files(study: Path) -> None:
    held = claim(folder(study, "running"))
    assert held is not None
    try:
        status = study_status(study)
    finally:
        held.release()
    states = by_name(status.cells)
    assert {name: state.status.value for name, state in states.items()} == {
        "ok": "ok",
        "oom": "oom",
        "pending": "pending",
        "running": "running",
        "interrupted": "interrupted",
        "damaged": "damaged",
        "metrics": "interrupted",
    }
    assert status.study == "quick"
    assert status.counts == {"ok": 1, "oom": 1, "interrupted": 2, "running": 1, "pending": 1, "damaged": 1}
    assert states["oom"].reason == "out of memory at batch 3"
    assert states["ok"].main is not None
    assert (states["ok"].main.value, states["ok"].seconds) == (1.5, 2.5)


def test_damaged_files_are_named(study: Path) -> None:
    damaged = study_status(study).damaged
    assert len(damaged) == 2
    assert f"{spec('damaged').id}/result.json is damaged" in damaged[0]
    assert f"{spec('metrics').id}/metrics.jsonl is damaged: line 1" in damaged[1]


def test_a_study_without_manifest_is_read_from_its_cells(study: Path) -> None:
    manifest.manifest_path(study).write_text("{")
    status = study_status(study)
    assert len(status.cells) == 7
    assert "quick/manifest.json is damaged" in status.damaged[0]
    manifest.manifest_path(study).unlink()
    assert "manifest.json is missing" in study_status(study).damaged[0]
    shutil.rmtree(study / "cells")
    with pytest.raises(FileNotFoundError):
        study_status(study)


def test_the_table_has_one_line_for_each_row_and_one_for_each_cell_without(study: Path) -> None:
    table = load(study)
    assert tuple(table.columns) == COLUMNS
    assert list(table["cell"].str.split("--").str[0]) == [
        *["ok"] * 3,
        "oom",
        "pending",
        "running",
        "interrupted",
        "damaged",
        "metrics",
    ]
    first = table.iloc[0]
    assert (first["study"], first["task"], first["method"], first["status"]) == ("quick", "toy", "toy", "ok")
    assert (first["metric"], first["value"], first["unit"], first["split"]) == ("bpb", 1.5, "bits/byte", "test")
    assert (first["n"], first["commit"], first["device"], first["seconds"]) == (1000, "abc", "a device", 2.5)
    assert first["context"] == {"block_length": 32}
    assert first["higher_is_better"] is False or not first["higher_is_better"]


def test_what_is_missing_stays_missing(study: Path) -> None:
    table = load(study)
    assert pandas.isna(table.iloc[2]["value"]), "a row that could not be measured"
    without = table[table["status"] != "ok"]
    assert without["value"].isna().all()
    assert without["metric"].isna().all()
    assert without["n"].isna().all()
    assert set(table["status"]) == {"ok", "oom", "pending", "interrupted", "damaged"}


def test_the_table_names_damaged_files_and_never_reads_them(study: Path) -> None:
    table = load(study)
    assert [line.split(" is damaged")[0].split("/")[1] for line in table.attrs["damaged"]] == [
        "result.json",
        "metrics.jsonl",
    ]
    damaged = table[table["status"] == "damaged"]
    assert len(damaged) == 1
    assert "result.json is damaged" in damaged.iloc[0]["reason"]
    assert damaged["value"].isna().all()
    assert table.attrs["titles"]["methods"]["toy"]["title"] == "A toy"


def test_an_empty_study_gives_an_empty_table(tmp_path: Path) -> None:
    manifest.merge(tmp_path, [])
    assert list(load(tmp_path).columns) == list(COLUMNS)
    assert len(load(tmp_path)) == 0


def test_a_table_says_nothing_of_the_machine_it_is_read_on(study: Path) -> None:
    text = load(study).to_csv()
    assert str(study.parent) not in text
    assert str(CHECKOUT) not in text


@pytest.fixture
def real(tmp_path: Path) -> Callable[..., CellFolder]:
    """Makes a cell of a task and a method that exist, finished with a fingerprint."""

    def make(fingerprint: str | None) -> CellFolder:
        changed = {**spec("real").to_json(), "task": "enwik8", "method": "full_attention"}
        made = type(spec("real")).from_json(changed)
        manifest.merge(tmp_path, [made])
        cell = manifest.cell_folder(tmp_path, made.id)
        rows = [Row("bpb", 1.5, "bits/byte", "test")]
        cell.write_result(Result(cell.cell, Status.OK, rows=rows, provenance={"fingerprint": fingerprint}))
        return cell

    return make


def test_a_result_of_other_code_is_stale(real: Callable[..., CellFolder], tmp_path: Path) -> None:
    code = cell_fingerprint({"task": "enwik8", "method": "full_attention"})
    real(code)
    assert list(load(tmp_path)["stale"]) == [False]
    real("other code")
    assert list(load(tmp_path)["stale"]) == [True]
    real(None)
    assert load(tmp_path)["stale"].isna().all()


def test_a_result_whose_code_is_gone_is_neither_stale_nor_not(study: Path) -> None:
    assert load(study)["stale"].isna().all()


def decided(study: Path, name: str, retry: str | None) -> resume.Decision:
    return resume.decide(folder(study, name), spec(name).to_json(), retry, Today(study))


@pytest.mark.parametrize("name", ["pending", "interrupted", "damaged", "metrics"])
def test_what_has_no_result_is_run(study: Path, name: str) -> None:
    decision = decided(study, name, None)
    assert decision.run
    assert (decision.replaces is None) == (name != "damaged")


@pytest.mark.parametrize("status", [Status.OOM, Status.TIMEOUT, Status.ERROR, Status.DIVERGED, Status.UNSUPPORTED])
def test_a_result_stays_until_it_is_asked_for(study: Path, status: Status) -> None:
    finish(study, "ok", status)
    failed = status is not Status.UNSUPPORTED
    assert not decided(study, "ok", None).run
    assert decided(study, "ok", "oom").run == (status is Status.OOM)
    assert decided(study, "ok", "failed").run == failed
    assert decided(study, "ok", "all").run
    assert decided(study, "ok", "all").replaces == folder(study, "ok").result_digest()
    assert not decided(study, "ok", "stale").run, "its code is not known, so it cannot be called stale"


def test_only_stale_results_are_retried_as_stale(real: Callable[..., CellFolder], tmp_path: Path) -> None:
    today = Today(tmp_path)
    data = {"task": "enwik8", "method": "full_attention", "plugins": []}
    assert not resume.decide(real(cell_fingerprint(data)), data, "stale", today).run
    stale = resume.decide(real("other code"), data, "stale", today)
    assert stale.run
    assert stale.afresh
    assert not resume.decide(real("other code"), data, "failed", today).run


def test_an_unknown_retry_is_an_error_of_use() -> None:
    with pytest.raises(SettingsError, match="--retry"):
        resume.check_retry("everything")


def test_status_and_resume_need_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; import bench.runner, bench.store.frame, bench.store.resume, bench.store.study_status;"
        "heavy = {'torch', 'pytorch_lightning', 'pandas', 'numpy', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
