"""`python -m bench cell`: one cell in one process, with nothing installed but what a cell needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.claim import claim

NEEDED = ["numpy", "pytorch_lightning", "torch"]
# Imports as if our own modules could see only these packages. (Lightning may use whatever is there.)
ALONE = f"""
import builtins, sys
everything = builtins.__import__

def alone(name, globals=None, locals=None, fromlist=(), level=0):
    importer, wanted = (globals or {{}}).get("__name__", "").split(".")[0], name.split(".")[0]
    allowed = {{*sys.stdlib_module_names, "bench", "models", "tasks", *{NEEDED}}}
    if importer in ("bench", "models", "tasks") and level == 0 and wanted not in allowed:
        raise ImportError(f"{{globals['__name__']}} imports {{name}}")
    return everything(name, globals, locals, fromlist, level)

builtins.__import__ = alone
from bench.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def write_spec(folder: Path, **changes: Any) -> Path:
    """The folder of a cell that takes a moment, as ``run --dry-run`` makes it."""
    (folder / "text").write_bytes(bytes(range(256)) * 16)
    train = {"steps": 4, "batch_size": 2, "block_length": 8, "validate_every": 2, "checkpoint_every": 2}
    content: dict[str, Any] = {
        "task": "enwik8",
        "task_label": "bytes-text",
        "task_version": 1,
        "task_settings": {"path": str(folder / "text")},
        "method": "transformer_xl",
        "variant": "",
        "method_settings": {"memory_length": 8},
        "impl": "reference",
        "backbone": {"layers": 1, "width": 16, "feedforward": 16, "heads": 2},
        "train": train,
        "trainer": {"accelerator": "cpu"},
        "precision": "32-true",
        "seed": 0,
    }
    spec = CellSpec(**{**content, **changes})
    place = CellFolder(folder / "cells" / spec.id)
    place.create(spec.to_json())
    return place.spec_path


@pytest.mark.slow
def test_cell_runs_with_what_a_cell_needs_and_its_result_stands_beside_the_spec(tmp_path: Path, checkout: Path) -> None:
    path = write_spec(tmp_path)
    command = [sys.executable, "-c", ALONE, "cell", str(path)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["cell"], said["status"]) == (path.parent.name, "ok")
    assert any(row["metric"] == "bpb" and row["split"] == "test" for row in said["rows"])
    assert "bpb (test): " in done.stdout
    result = CellFolder(path.parent).result()
    assert result is not None
    assert result.status == "ok"


def test_failing_cell_is_exit_code_1_and_its_result_is_replaced_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_spec(tmp_path, method_settings={"memory_lenght": 8})
    for attempt in (1, 2):
        assert main(["cell", str(path), "--quiet"]) == 1
        printed = capsys.readouterr()
        said = json.loads(printed.out.splitlines()[-1])
        assert said["status"] == "error"
        assert "memory_lenght" in said["reason"]
        assert "Traceback" in printed.err + printed.out
        result = CellFolder(path.parent).result()
        assert result is not None
        assert result.attempt == attempt
    assert (path.parent / "attempts" / "1" / "result.json").is_file()


def test_a_stored_reason_names_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path, task_settings={"path": str(tmp_path / "gone.txt")})
    assert main(["cell", str(path), "--quiet"]) == 1
    capsys.readouterr()
    result = CellFolder(path.parent).result()
    assert result is not None
    assert ".../gone.txt" in result.reason
    assert ".../gone.txt" in result.traceback
    assert str(tmp_path) not in json.dumps(result.to_json())


def test_trainer_settings_of_a_spec_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path, trainer={"accelerator": "cpu", "strategy": "deepspeed"})
    assert main(["cell", str(path), "--quiet"]) == 1
    assert "trainer.strategy: is 'deepspeed', not one of auto, ddp" in capsys.readouterr().out


def test_cell_that_another_process_runs_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path)
    held = claim(CellFolder(path.parent))
    assert held is not None
    try:
        assert main(["cell", str(path)]) == 1
    finally:
        held.release()
    printed = capsys.readouterr()
    assert "another process runs" in printed.err
    assert json.loads(printed.out)["status"] == "running"


def test_file_that_is_no_spec_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_spec(tmp_path)
    content = json.loads(path.read_text())
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "not an object"),
        (json.dumps({**content, "sede": 1}), "sede"),
        (json.dumps({**content, "seed": 1}), "it is the spec of"),
    ):
        path.write_text(text)
        assert main(["cell", str(path)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert str(path) in error
    assert main(["cell", str(tmp_path / "none.json")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["cell", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
