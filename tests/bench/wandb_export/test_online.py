"""Runs that are sent: while a cell trains, at its end, and by `--sync`; and what happens where no server answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest
from bench.store.attempt import begin, note
from bench.store.claim import claim
from bench.wandb_export import ledger
from bench.wandb_export.beside import cells_sent, export_study
from bench.wandb_export.settings import WandbSettings
from models.registry import load_file

cells = load_file(Path(__file__).with_name("finished_cells.py"))
serving = load_file(Path(__file__).with_name("recording_server.py")).serving

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Any]:
    with serving() as running:
        yield running


@pytest.fixture
def nowhere() -> Iterator[dict[str, str]]:
    """The address of a server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield {"WANDB_BASE_URL": f"http://127.0.0.1:{listening.getsockname()[1]}", "WANDB_API_KEY": "0" * 40}


def bench_wandb(checkout: Path, *words: str, **environment: str) -> tuple[dict[str, Any], subprocess.CompletedProcess]:
    command = [sys.executable, "-m", "bench", "wandb", *words]
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_cell_is_sent_while_it_runs(
    checkout: Path, tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    study_dir, cell = tmp_path / "mine", cells.spec()
    settings = WandbSettings(mode="online", time_limit_s=100.0)
    with cells_sent(study_dir, settings):
        manifest.merge(study_dir, [cell], preset="small")
        folder = manifest.cell_folder(study_dir, cell.id)
        held = claim(folder)
        assert held is not None
        begin(folder, None)
        note(folder, None, {})
        wait_for(lambda: server.runs)
        (run,) = server.runs
        records = cells.records()
        folder.append(records[:2])
        wait_for(lambda: len(server.history.get(run, [])) >= 1)  # the last step stays open: more may come of it
        assert run not in server.ended
        folder.append(records[2:])
        folder.write_result(cells.result(cell))
        held.release()
        wait_for(lambda: run in server.ended)
    assert server.ended == {run: 0}
    assert [point["_step"] for point in server.history[run]] == [10, 20, 50]
    assert server.summaries[run]["test/bpb"] == 2.5
    first = server.runs[run]
    assert (first["groupName"], first["jobType"], first["host"], first["repo"]) == (
        "enwik8-4M",
        "expire_span",
        None,
        None,
    )
    assert str(checkout) not in "".join(server.raw)
    assert socket.gethostname() not in "".join(server.raw)

    # The run is up to date, so the export at the end of the study sends nothing, until the clock has measured.
    assert ledger.read(study_dir).runs[cell.id].folder is None
    before = len(server.raw)
    assert export_study(study_dir, settings, quiet=True)
    assert len(server.raw) == before
    cells.write_clock(study_dir, cell)
    assert export_study(study_dir, settings, quiet=True)
    assert server.summaries[run]["clock/train/time_per_batch"] == 12.5


def test_sync_uploads_each_run_once(checkout: Path, tmp_path: Path, server: Any) -> None:
    study_dir, cell = tmp_path / "mine", cells.spec()
    cells.write(study_dir, (cell, cells.result(cell)))
    said, done = bench_wandb(checkout, str(study_dir), "--sync", **server.environment)
    assert done.returncode == 0, done.stderr
    assert (said["written"], said["synced"]) == (1, 1)
    (run,) = server.history
    assert [point["_step"] for point in server.history[run]] == [10, 20, 50]
    before = len(server.raw)
    said, done = bench_wandb(checkout, str(study_dir), "--sync", **server.environment)
    assert (done.returncode, said["synced"], len(server.raw)) == (0, 1, before)


def test_sync_without_an_answer_ends_in_time(checkout: Path, tmp_path: Path, nowhere: dict[str, str]) -> None:
    study_dir, cell = tmp_path / "mine", cells.spec()
    cells.write(study_dir, (cell, cells.result(cell)))
    bench_wandb(checkout, str(study_dir))
    began = time.monotonic()
    said, done = bench_wandb(checkout, str(study_dir), "--sync", "--time-limit", "8", **nowhere)
    assert time.monotonic() - began < 30
    assert done.returncode == 1
    assert said["synced"] == 0
    assert "not all runs could be uploaded within 8 s" in done.stderr


def test_what_cannot_be_sent_is_written_offline(checkout: Path, tmp_path: Path, nowhere: dict[str, str]) -> None:
    study_dir, cell = tmp_path / "mine", cells.spec()
    cells.write(study_dir, (cell, cells.result(cell)))
    began = time.monotonic()
    said, done = bench_wandb(checkout, str(study_dir), "--online", **nowhere)
    assert time.monotonic() - began < 90
    assert done.returncode == 0
    assert said["written"] == 1
    assert "what could not be sent is written offline" in done.stderr
    folder = ledger.read(study_dir).runs[cell.id].folder
    assert folder is not None
    assert list((ledger.folder_of(study_dir) / folder).glob("*.wandb"))


def test_runner_does_not_wait_for_a_server_that_does_not_answer(
    checkout: Path,
    tmp_path: Path,
    nowhere: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkout)
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    study_dir, cell = tmp_path / "mine", cells.spec()
    settings = WandbSettings(mode="online", time_limit_s=3.0)
    began = time.monotonic()
    with cells_sent(study_dir, settings):
        manifest.merge(study_dir, [cell], preset="small")
        held = claim(manifest.cell_folder(study_dir, cell.id))
        assert held is not None
        begin(held.folder, None)
        note(held.folder, None, {})
        time.sleep(6)  # long enough for the process to begin the run
        held.folder.write_result(cells.result(cell))
        held.release()
    assert not export_study(study_dir, settings, quiet=True)
    assert time.monotonic() - began < 40
    assert "within 3 s" in capsys.readouterr().err
