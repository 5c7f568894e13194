"""`python -m bench wandb`: real run files, read back with W&B's own reader."""

from __future__ import annotations

import ast
import getpass
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest
from bench.store.statuses import Status
from bench.wandb_export import ledger
from bench.wandb_export.beside import export_study
from bench.wandb_export.settings import WandbSettings
from models.registry import load_file

cells = load_file(Path(__file__).with_name("finished_cells.py"))

HOSTILE = {
    "WANDB_NOTES": "a-note-of-the-user",
    "WANDB_TAGS": "a-tag-of-the-user",
    "WANDB_ENTITY": "an-entity-of-the-user",
    "WANDB_USERNAME": "a-name-of-the-user",
    "WANDB_MODE": "disabled",
}


def bench_wandb(checkout: Path, *words: str, **environment: str) -> tuple[dict[str, Any], subprocess.CompletedProcess]:
    command = [sys.executable, "-m", "bench", "wandb", *words]
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done


def read_back(run: Path) -> list[dict[str, Any]]:
    """The records of a run folder, by what `wandb leet inspect` runs: W&B's own reader."""
    (file,) = run.glob("*.wandb")
    package = importlib.util.find_spec("wandb")
    assert package is not None
    assert package.origin is not None
    reader = Path(package.origin).with_name("bin") / "wandb-core"
    command = [str(reader), "leet", "inspect", "--json", "--no-observability", "--run-file", str(file), str(run.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def config_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    found = dict(of_type(records, "run")[0]["config"]["update"])
    for update in of_type(records, "config"):
        found |= update["update"]
    return found


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for update in of_type(records, "summary"):
        found |= update["update"]
    return found


@pytest.fixture(scope="module")
def good() -> Any:
    return cells.spec()


@pytest.fixture(scope="module")
def failed() -> Any:
    return cells.spec("full_attention", "memory=none")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkout: Path, good: Any, failed: Any) -> Path:
    """A study of a good cell, which the clock has measured, and one out of memory; exported once."""
    study_dir = tmp_path_factory.mktemp("runs") / "mine"
    cells.write(
        study_dir,
        (good, cells.result(good)),
        (failed, cells.result(failed, Status.OOM, "out of memory: 1 GB asked for")),
    )
    cells.write_clock(study_dir, good)
    said, done = bench_wandb(checkout, str(study_dir), **HOSTILE)
    assert done.returncode == 0, done.stderr
    assert (said["study"], said["written"], said["current"]) == ("mine", 2, 0)
    return study_dir


def run_of(study_dir: Path, cell: Any) -> Path:
    folder = ledger.read(study_dir).runs[cell.id].folder
    assert folder is not None
    return ledger.folder_of(study_dir) / folder


def test_config_summary_and_curves_stand_in_the_file(study: Path, good: Any) -> None:
    records = read_back(run_of(study, good))
    (run,) = of_type(records, "run")
    assert run["display_name"] == good.id
    assert run["run_group"] == "enwik8-4M"
    assert run["job_type"] == "expire_span"
    assert run["project"] == "spanbench"
    assert "seed:0" in run["tags"]

    config = config_of(records)
    spec = good.to_json()
    assert spec.items() <= config.items()
    assert config["provenance"]["commit"] == "0123abc"
    assert config["units"]["clock/train/time_per_batch"] == "ms"
    assert set(config) - set(spec) - {"_wandb"} == {
        *("study", "cell", "expression", "provenance", "started", "units", "clock")
    }

    summary = summary_of(records)
    assert {name: value for name, value in summary.items() if name[0] != "_"} == {
        "status": "ok",
        "seconds": 31.5,
        "attempt": 1,
        "test/bpb": 2.5,
        "parameters": 4096,
        "clock/status": "ok",
        "clock/train/time_per_batch": 12.5,
        "clock/train/time_per_batch/p20": 12,
        "clock/train/time_per_batch/p80": 13.5,
        "clock/train/memory_peak": 1e6,
    }

    history = [point["item"] for point in of_type(records, "history")]
    assert [(point["_step"], point["seconds"]) for point in history] == [(10, 5), (20, 10), (50, 26)]
    assert history[-1]["validation/bpb"] == 2.75
    assert history[-1]["_timestamp"] == cells.BEGAN + 26
    assert of_type(records, "exit")[0].get("exit_code", 0) == 0


def test_failed_cell_is_a_failed_run(study: Path, failed: Any) -> None:
    records = read_back(run_of(study, failed))
    assert of_type(records, "exit")[0]["exit_code"] == 1
    summary = summary_of(records)
    assert (summary["status"], summary["reason"]) == ("oom", "out of memory: 1 GB asked for")
    assert "test/bpb" not in summary
    assert len(of_type(records, "history")) == 3


def test_no_byte_of_a_run_names_the_machine_or_its_user(study: Path, checkout: Path, good: Any) -> None:
    records = read_back(run_of(study, good))
    assert not {"host", "git", "settings"} & set(of_type(records, "run")[0])
    telling = {
        "checkout": str(checkout),
        "home": str(Path.home()),
        "study's folder": str(study.parent),
        "command": "bench wandb",
        "program": "__main__",
        "Python": sys.executable,
        **HOSTILE,
    }
    # Two letters of a short name, such as vm, come up in any file by chance: it is looked for as a whole value.
    names = {socket.gethostname().lower(), getpass.getuser().lower()}
    values = [form for name in names for form in (chr(len(name)) + name, f'"{name}"')]
    files = [path for path in ledger.folder_of(study).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".wandb", ".json", ".lock"}
    for path in files:
        content = path.read_bytes().lower()
        said = json.dumps(read_back(path.parent)).lower().encode() if path.suffix == ".wandb" else b""
        for what, text in telling.items():
            if what != "WANDB_MODE":
                assert text.lower().encode() not in content + said, (what, path.name)
        for value in values:
            assert value.encode() not in content + said, (value, path.name)
    assert [path.name for path in ledger.folder_of(study).glob(".*")] == []


@pytest.mark.slow
def test_only_what_changed_or_was_lost_is_written_again(
    study: Path, checkout: Path, tmp_path: Path, good: Any, failed: Any
) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(study, copy)

    def written() -> tuple[int, int]:
        said, done = bench_wandb(checkout, str(copy))
        assert done.returncode == 0, done.stderr
        return said["written"], said["current"]

    stamps = {path: path.stat().st_mtime_ns for path in copy.rglob("*.wandb")}
    assert written() == (0, 2)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.wandb")} == stamps

    lost, kept = run_of(copy, failed), run_of(copy, good)
    shutil.rmtree(lost)
    assert written() == (1, 1)
    assert read_back(lost)
    assert next(kept.glob("*.wandb")).stat().st_mtime_ns == stamps[next(kept.glob("*.wandb"))]

    manifest.cell_folder(copy, good.id).write_result(cells.result(good, bpb=2.25))
    assert written() == (1, 1)
    assert summary_of(read_back(run_of(copy, good)))["test/bpb"] == 2.25
    assert len(list(ledger.folder_of(copy).glob("offline-run-*"))) == 2


@pytest.mark.slow
def test_damaged_files_are_named_and_stop_nothing_else(
    study: Path, checkout: Path, tmp_path: Path, good: Any, failed: Any
) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(study, copy)
    manifest.cell_folder(copy, failed.id).result_path.write_text("{")
    ledger.path_of(copy).write_text("{")
    said, done = bench_wandb(checkout, str(copy), "--project", "other")
    assert done.returncode == 1
    assert (said["written"], said["current"]) == (1, 0)
    assert f"{failed.id}/result.json is damaged" in done.stderr
    assert "wandb/exported.json is damaged" in done.stderr
    assert of_type(read_back(run_of(copy, good)), "run")[0]["project"] == "other"
    assert ledger.read(copy).project == "other"


def test_folder_without_a_study_is_wrong_usage(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "wandb", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "there is no study in" in done.stderr
    assert not (tmp_path / "none").exists()


def test_folder_named_wandb_is_not_taken_for_the_package(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    code = "from bench.wandb_export.writer import installed; print(installed())"
    # Without site-packages, where the real one is.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_without_wandb_a_study_goes_on_and_says_so_in_one_line(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.wandb_export.beside.installed", lambda: False)
    assert export_study(study, WandbSettings(), quiet=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("W&B is not installed, so no W&B runs are written")
    assert printed.err.count("\n") == 1
    assert export_study(study, WandbSettings(mode="disabled"), quiet=False)
    assert capsys.readouterr() == ("", "")


def test_wandb_is_imported_by_the_writer_alone(project_files: list[Path], checkout: Path) -> None:
    importing = {
        str(path.relative_to(checkout))
        for path in project_files
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "wandb" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wandb" and not node.level)
    }
    assert importing <= {"bench/wandb_export/writer.py"}
