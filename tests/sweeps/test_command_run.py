"""`python -m sweeps`: real sweeps of tiny cells, from the command line to the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.store import manifest
from sweeps.__main__ import main

SPACE = """
about: a sweep of tiny cells
settings:
  tasks:
    enwik8:
      task: {{path: {text}}}
      backbone: {{layers: 1, width: 16, feedforward: 16, heads: 2}}
      train: {{steps: {steps}, batch_size: 2, block_length: 8, validate_every: 20, checkpoint_every: 20}}
      trainer: {{accelerator: cpu}}
task: enwik8
method: {method}
parameters:
  train.learning_rate: {{low: 1.0e-3, high: 1.0e-1, log: true}}
sampler: {{seed: 3}}
pruner: {{kind: none}}
"""
# What a cell imports, as a method sees it that is built in the cell's process.
SPY = '''"""Expire-Span, built by a spy."""
import json
import os
import sys

from models import expire_span

CARD = {
    "title": "Spy", "family": "span", "paper": "none", "impls": ["reference"], "colour": "#000000", "marker": "o",
}
Settings = expire_span.Settings


class Method(expire_span.Method):
    @classmethod
    def build_shared(cls, settings, sizes):
        with open(os.environ["SPY"], "w") as file:
            json.dump(sorted(sys.modules), file)
        return super().build_shared(settings, sizes)
'''
# (PyTorch Lightning itself imports YAML, Matplotlib and jsonargparse where they are installed.)
NEVER_IN_A_CELL = {"optuna", "sqlalchemy", "wandb", "ray"}


def written(folder: Path, method: str = "expire_span", steps: int = 20) -> Path:
    """A space on a text of its own."""
    (folder / "text").write_bytes(bytes(range(256)) * 16)
    path = folder / "tiny.yaml"
    path.write_text(SPACE.format(text=folder / "text", method=method, steps=steps), encoding="utf-8")
    return path


def start(checkout: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps", *words],
        cwd=checkout,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def last_line(printed: str) -> dict[str, Any]:
    found = json.loads(printed.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere.yaml", "--trials", "2"], "there is no file nowhere.yaml"),
        (["run", "nowhere.yaml", "--trials", "0"], "--trials"),
        (["status", "runs/none-of-ours"], "there is no sweep"),
        (["best", "runs/none-of-ours"], "there is no sweep"),
    ],
)
def test_wrong_use_is_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_command_line_itself_loads_nothing_heavy(checkout: Path) -> None:
    code = "import sys, sweeps.__main__\nprint(sorted({'torch', 'optuna', 'pytorch_lightning'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_a_sweep_of_a_plugin_is_run_reported_and_imports_no_optuna_in_cells(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")
    out, space = tmp_path / "runs" / "tiny", written(tmp_path, "spy")
    words = ["run", str(space), "--trials", "2", "--out", str(out), "--plugin", str(tmp_path / "spy.py")]
    worker = start(checkout, *words, SPY=str(tmp_path / "spied.json"))
    printed, error = worker.communicate(timeout=280)
    assert worker.returncode == 0, error
    said = last_line(printed)
    assert said["study"] == "tiny"
    assert said["counts"] == {"complete": 2, "pruned": 0, "failed": 0, "running": 0}
    assert (said["best"]["metric"], said["best"]["split"]) == ("bpb", "validation")
    assert "a sweep of tiny cells" in Path(said["report"]).read_text()
    spied = set(json.loads((tmp_path / "spied.json").read_text()))
    assert "torch" in spied
    assert not spied & NEVER_IN_A_CELL
    assert {name for name in spied if name.startswith("sweeps.")} <= {"sweeps.__main__"}
    listed = manifest.read(out)
    assert len(listed.cells) == 2
    values = []
    for cell in listed.cells:
        result = manifest.cell_folder(out, cell["cell"]).result()
        assert result is not None
        values += [row.value for row in result.rows if (row.metric, row.split) == ("bpb", "validation")]
    assert said["best"]["value"] == min(value for value in values if value is not None)
    assert main(["status", str(out)]) == 0
    assert main(["best", str(out)]) == 0


@pytest.mark.slow
def test_a_killed_sweep_goes_on_from_the_checkpoint_of_its_cell(tmp_path: Path, checkout: Path) -> None:
    out, space = tmp_path / "runs" / "tiny", written(tmp_path, steps=400)
    words = ["run", str(space), "--trials", "1", "--out", str(out), "--quiet"]
    worker = start(checkout, *words)
    deadline = time.monotonic() + 120
    while not list(out.glob("cells/*/checkpoints/last*")):
        assert worker.poll() is None, worker.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    again = start(checkout, *words)
    printed, error = again.communicate(timeout=280)
    assert again.returncode == 0, error
    assert last_line(printed)["counts"] == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}
    (cell,) = manifest.read(out).cells
    folder = manifest.cell_folder(out, cell["cell"])
    assert json.loads(folder.attempt_path.read_text())["processes"] == 2
    assert "going on from step" in folder.log_path.read_text()
    steps = [
        record["step"] for record in folder.records() if (record["split"], record["metric"]) == ("validation", "bpb")
    ]
    assert steps == list(range(20, 401, 20))
