"""`python -m bench run`: what is written when, what the last line says, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.commands.run import default_jobs
from bench.report import ReportError
from bench.runner import Summary
from bench.spec import CellSpec
from bench.store import manifest
from models.registry import METHODS

CONFIG = """
about: a study of two cells that takes a moment
threads: 1
clock: {rounds: 2, steps: 2, seconds: 0, warmup_steps: 2}
tasks:
  enwik8:
    backbone: {layers: 1, width: 16, feedforward: 16, heads: 2}
    train: {steps: 4, batch_size: 2, block_length: 8, validate_every: 2, checkpoint_every: 2}
    trainer: {accelerator: cpu}
    methods:
      transformer_xl: {memory_length: 8}
      expire_span: {max_span: 8, ramp: 2}
"""
BROKEN = '''"""A method that cannot be built."""
from dataclasses import dataclass

CARD = {
    "title": "Broken", "family": "none", "paper": "none", "impls": ["reference"], "colour": "#000", "marker": "o",
}

@dataclass(frozen=True)
class Settings:
    """Settings of broken."""

class Method:
    @classmethod
    def build_shared(cls, settings, sizes):
        raise RuntimeError("it does not work")
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study above, on a text of its own."""
    monkeypatch.setattr(METHODS, "_plugins", {})
    (tmp_path / "text").write_bytes(bytes(range(256)) * 16)
    (tmp_path / "broken.py").write_text(BROKEN)
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.replace("backbone:", f"task: {{path: {tmp_path / 'text'}}}\n    backbone:", 1))
    return path


def last_line(printed: str) -> dict[str, Any]:
    found = json.loads(printed.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_study_runs_and_is_reported(config: Path, checkout: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "tiny"
    command = [sys.executable, "-m", "bench", "run", "--config", str(config), "--out", str(out), "--jobs", "2"]
    command += ["--plugin", str(tmp_path / "broken.py"), "--methods", "expire_span,broken", "--seeds", "3"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    said = last_line(done.stdout)
    assert said["study"] == "tiny"
    assert said["cells"] == 2
    assert said["counts"] == {"ok": 1, "error": 1}
    assert said["report"].startswith(str(out))
    assert Path(said["report"]).is_file()
    assert len(list(out.glob("wandb/offline-run-*/*.wandb"))) == 2  # the failed cell's too
    assert len(done.stdout.splitlines()) > 3


@pytest.mark.slow
def test_running_one_method_again_keeps_the_others_measured(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "tiny"
    words = ["run", "--config", str(config), "--out", str(out), "--quiet", "--set", "wandb.mode=disabled"]
    assert main(words) == 0
    (measured,) = (out / "clock").glob("*.json")
    cells = {method["cell"] for method in json.loads(measured.read_text())["methods"]}
    assert len(cells) == 2
    assert main([*words, "--methods", "transformer_xl", "--seeds", "0,1"]) == 0
    assert {method["cell"] for method in json.loads(measured.read_text())["methods"]} == cells


def test_dry_run_writes_the_specs_and_nothing_else(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "dry"
    assert main(["run", "--config", str(config), "--out", str(out), "--dry-run", "--seeds", "0,1"]) == 0
    printed = capsys.readouterr().out
    assert last_line(printed) == {"study": "dry", "cells": 4, "counts": {"pending": 4}, "report": None}
    specs = sorted(out.glob("cells/*/spec.json"))
    assert len(specs) == 4
    for path in specs:
        spec = CellSpec.from_json(json.loads(path.read_text()), path)
        assert spec.id == path.parent.name
        assert f"python -m bench cell {path}" in printed.splitlines()
    files = {path.name for path in out.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "manifest.lock", "local.json", "spec.json"}
    listed = json.loads((out / "manifest.json").read_text())
    assert [cell["cell"] for cell in listed["cells"]] == [
        line.split("/")[-2] for line in printed.splitlines() if line.startswith("python")
    ]
    assert listed["titles"]["methods"]["expire_span"]["title"] == "Expire-Span"


@pytest.mark.parametrize("written", ["absolute", "relative"])
def test_study_names_no_folder_of_the_user_but_in_local_json(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    home = tmp_path / "alice_home" / "secret_user"
    home.mkdir(parents=True)
    for name in ("text", "broken.py"):
        (tmp_path / name).rename(home / name)
    with open(home / "broken.py", "a") as file:
        file.write("\n    def __init__(self, settings, sizes):\n        raise RuntimeError('no use', __file__)\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = str(home) if written == "absolute" else "../alice_home/secret_user"
    flags = ["--plugin", f"{folder}/broken.py", "--set", f"task.enwik8.path={folder}/text", "--quiet"]
    flags += ["--methods", "transformer_xl,broken"]
    config.write_text(config.read_text().replace(str(tmp_path / "text"), f"{folder}/text"))
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "dry"), "--dry-run", *flags]) == 0

    # Each in another folder than the study was planned in: what they need is found by what local.json says.
    monkeypatch.chdir(tmp_path)
    codes = {}
    for path in tmp_path.glob("dry/cells/*/spec.json"):
        monkeypatch.setattr(METHODS, "_plugins", {})
        codes[json.loads(path.read_text())["method"]] = main(["cell", str(path), "--quiet"])
    assert codes == {"transformer_xl": 0, "broken": 1}
    texts = {path: path.read_bytes() for path in tmp_path.glob("dry/**/*") if path.is_file()}
    assert {"result.json", "attempt.json", "metrics.jsonl", "best.ckpt"} <= {path.name for path in texts}
    assert b"no use" in b"".join(texts.values()), "the traceback is there"
    for path, text in texts.items():
        if path.name != "local.json":
            for private in (b"alice_home", b"secret_user", str(tmp_path).encode()):
                assert private not in text, path


def test_settings_can_follow_one_set_or_several(config: Path, tmp_path: Path) -> None:
    flags = ["--set", "train.steps=5", "backbone.width=32", "--set", "train.steps=6", "--methods", "transformer_xl"]
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "dry"), "--dry-run", *flags]) == 0
    (path,) = tmp_path.glob("dry/cells/*/spec.json")
    spec = json.loads(path.read_text())
    assert (spec["train"]["steps"], spec["backbone"]["width"]) == (6, 32)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--executor", "ray"], "--executor: this version has no executor but local"),
        (["--address", "auto"], "--executor: this version has no executor but local"),
        (["--jobs", "0"], "--jobs: is 0"),
        (["--seeds", "0,x"], "--seeds: '0,x' is not a list of whole numbers"),
        (["--seeds", "0,0"], "seeds (in --seeds): are [0, 0]"),
        (
            ["--seeds", "99999999999999999999999"],
            "seeds (in --seeds): are [99999999999999999999999]. Give numbers up to",
        ),
        (["--methods", "expire_span,"], "--methods: 'expire_span,' has an empty part"),
        (["--methods", "expire_spam"], "--methods: there is no method 'expire_spam'. Did you mean expire_span?"),
        (["--tasks", "enwik9"], "--tasks: there is no task 'enwik9'. Did you mean enwik8?"),
        (["--plugin", "none.py"], "--plugin: there is no file none.py"),
        (["--set", "train.step=3"], "train.step (in --set): there is no such key. Did you mean train.steps?"),
        (["--set", "method.expire_span.ramp=x"], "method.expire_span.ramp (in --set): 'x' is not a whole number"),
        (["--set", "task.enwik8.path=/no/such"], "task.enwik8.path (in --set): there is no file /no/such"),
    ],
)
def test_wrong_settings_end_with_2_before_anything_is_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"bench run: {message}")
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_config_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", "none.yaml"]) == 2
    assert "there is no file none.yaml" in capsys.readouterr().err


def test_keys_are_listed_where_the_device_is_not(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config.write_text(config.read_text().replace("accelerator: cpu", "accelerator: cuda"))
    assert main(["run", "--config", str(config), "--keys", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["run", "--config", str(config), "--dry-run"]) == 2
    assert "bench run: trainer.accelerator (in " in capsys.readouterr().err


def test_out_may_not_be_a_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(config), "--out", str(config)]) == 2
    assert "--out: " in capsys.readouterr().err


def test_keys_are_listed_with_their_help(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), "--keys"]) == 0
    printed = capsys.readouterr().out
    keys = last_line(printed)["keys"]
    assert keys["method.expire_span.max_span"]["help"].startswith("L, the longest span")
    assert {"train.steps", "backbone.width", "trainer.precision", "task.enwik8.path", "time_limit_s"} < set(keys)
    assert "train.steps = 1000" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("counts", "interrupted", "report_fails", "code"),
    [
        ({"ok": 2}, False, False, 0),
        ({"ok": 1, "unsupported": 1}, False, False, 0),
        ({"ok": 1, "oom": 1}, False, False, 1),
        ({"ok": 2}, False, True, 1),
        ({"ok": 1, "interrupted": 1}, True, False, 130),
    ],
)
def test_exit_code_says_how_the_study_stands(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    counts: dict[str, int],
    interrupted: bool,
    report_fails: bool,
    code: int,
) -> None:
    def run_study(study_dir: Path, cells: list[CellSpec], **options: Any) -> Summary:
        assert options["titles"]["tasks"]["enwik8"]["metric"] == "bpb"
        manifest.merge(study_dir, cells)
        return Summary(study_dir.name, len(cells), counts, interrupted)

    def build_report(study_dir: Path) -> tuple[str, str]:
        assert not interrupted
        if report_fails:
            raise ReportError("no table")
        return "page.md", "the table"

    monkeypatch.setattr("bench.runner.run_study", run_study)
    monkeypatch.setattr("bench.commands.run.build_report", build_report)
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), "--quiet"]) == code
    printed = capsys.readouterr()
    report = None if interrupted or report_fails else "page.md"
    assert json.loads(printed.out) == {"study": "out", "cells": 2, "counts": counts, "report": report}
    assert ("the report could not be built: no table" in printed.err) == report_fails


def test_plugin_that_leaves_at_its_import_is_not_a_run_that_went_well(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaves.py").write_text(BROKEN.replace("@dataclass", "raise SystemExit(0)\n\n@dataclass"))
    flags = ["--plugin", str(tmp_path / "leaves.py"), "--methods", "leaves", "--out", str(tmp_path / "out")]
    assert main(["run", "--config", str(config), *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("bench run: method.leaves (in leaves.py, line 8): cannot be imported: SystemExit: 0.")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cores", "threads", "cells", "jobs"), [(8, 1, 6, 6), (4, 1, 6, 4), (8, 3, 6, 2), (2, 4, 6, 1), (8, 1, 1, 1)]
)
def test_as_many_cells_run_at_a_time_as_the_cores_allow(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, cells: int, jobs: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    asked = [cell_with(accelerator, threads) for accelerator in ("auto", *["cpu"] * (cells - 1))]
    assert default_jobs(asked) == jobs


@pytest.mark.parametrize(("accelerator", "jobs"), [("auto", 3), ("gpu", 3), ("cpu", 8)])
def test_each_gpu_runs_one_cell_at_a_time(monkeypatch: pytest.MonkeyPatch, accelerator: str, jobs: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert default_jobs([cell_with(accelerator, 1)] * 9) == jobs


def cell_with(accelerator: str, threads: int) -> CellSpec:
    """A cell that wants one such device and so many CPU threads."""
    trainer = {"accelerator": accelerator, "devices": 1}
    return CellSpec("enwik8", "x", 1, {}, "lstm", "", {}, "reference", {}, {}, trainer, "32-true", 0, threads=threads)
