"""Real cells through `bench run`, one for each way to end: what is stored of them, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.store import manifest
from bench.store.result import Result
from bench.store.statuses import Status
from models.registry import METHODS
from tasks.registry import TASKS

CONFIG = """
about: cells that end in different ways
threads: 1
time_limit_s: 15
clock: {{rounds: 1, steps: 1, seconds: 0, warmup_steps: 2}}
wandb: {{mode: disabled}}
tasks:
  enwik8:
    task: {{path: {text}}}
    backbone: {{layers: 1, width: 16, feedforward: 16, heads: 2}}
    train: {{steps: 4, batch_size: 2, block_length: 8, validate_every: 2, evaluation_batch_size: 2}}
    trainer: {{accelerator: cpu}}
    methods:
      expire_span: {{max_span: 8, ramp: 2}}
      transformer_xl: {{memory_length: 8, train.learning_rate: 1.0e+30}}
      raises: {{}}
      refuses: {{}}
      sleeps: {{}}
"""
PLUGIN = '''"""A method that does not train."""
import time
from dataclasses import dataclass
from models.errors import Unsupported

CARD = {{
    "title": "{name}", "family": "none", "paper": "none", "impls": ["reference"], "colour": "#000", "marker": "o",
}}

@dataclass(frozen=True)
class Settings:
    """It has none."""

class Method:
    def __init__(self, settings, sizes):
        {deed}
'''
DEEDS = {
    "raises": 'raise RuntimeError(f"cannot use {__file__}")',
    "refuses": 'raise Unsupported("it needs another task")',
    "sleeps": "time.sleep(600)",
}


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command: its exit code and its last line. Cells have processes of their own all the same."""
    monkeypatch.setattr(METHODS, "_plugins", {})

    def run(*words: object) -> tuple[int, dict[str, Any]]:
        code = main([str(word) for word in words])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def results(study: Path) -> dict[str, Result]:
    """The stored results by method and precision."""
    found = {}
    for cell in manifest.read(study).cells:
        result = manifest.cell_folder(study, cell["cell"]).result()
        assert result is not None
        found[cell["method"] if cell["precision"] == "32-true" else cell["precision"]] = result
    return found


@pytest.mark.slow
def test_every_way_to_end_is_stored_with_its_reason(bench: Callable[..., Any], checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(256)) * 16)
    config, study = tmp_path / "ways.yaml", tmp_path / "ways"
    config.write_text(CONFIG.format(text=tmp_path / "text"))
    plugins = []
    for name, deed in DEEDS.items():
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name, deed=deed))
        plugins += ["--plugin", tmp_path / f"{name}.py"]
    code, said = bench("run", "--config", config, "--out", study, "--jobs", "2", *plugins)
    assert code == 1
    assert said["counts"] == {"ok": 1, "timeout": 1, "error": 1, "diverged": 1, "unsupported": 1}

    # What the device cannot compute is no failure.
    precision = ["--set", "trainer.precision=16-mixed", "--methods", "transformer_xl"]
    code, said = bench("run", "--config", config, "--out", study, *precision)
    assert code == 0
    assert said["counts"] == {"unsupported": 1}
    assert bench("status", study)[0] == 1

    found = results(study)
    assert {name: result.status for name, result in found.items()} == {
        "expire_span": Status.OK,
        "transformer_xl": Status.DIVERGED,
        "raises": Status.ERROR,
        "refuses": Status.UNSUPPORTED,
        "sleeps": Status.TIMEOUT,
        "16-mixed": Status.UNSUPPORTED,
    }
    assert found["expire_span"].reason == ""
    units = {row.metric: row.unit for row in found["expire_span"].rows}
    assert units.items() >= {"bpb": "bits/byte", "slots_alive": "slots", "state_bytes": "bytes"}.items()
    assert units.items() >= {"mean_span": "tokens", "parameters": "parameters", "train_tokens": "tokens"}.items()
    assert "step" in found["transformer_xl"].reason
    assert found["raises"].reason == "RuntimeError: cannot use .../raises.py"
    assert "raises.py" in found["raises"].traceback
    assert found["refuses"].reason == "it needs another task"
    assert found["sleeps"].reason.startswith("not finished within 15 s")
    assert found["16-mixed"].reason.startswith("trainer.precision=16-mixed needs a CUDA device")
    for name, result in found.items():
        assert (result.rows == []) == (name != "expire_span")
        assert result.seconds > 0
        stored = json.dumps(result.to_json())
        assert str(tmp_path) not in stored
        assert str(checkout) not in stored
    page = (study / "report" / "report.md").read_text(encoding="utf-8")
    assert [result.reason for result in found.values() if result.reason not in page] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_preset_quick_runs_on_every_task(bench: Callable[..., Any], tmp_path: Path) -> None:
    """With one of its methods, a short clock and nothing for W&B; `make bench` takes minutes more."""
    short = ("clock.rounds=1", "clock.steps=1", "clock.seconds=0", "clock.warmup_steps=2", "wandb.mode=disabled")
    words = ("--methods", "expire_span", "--out", tmp_path / "quick", "--set", *short)
    code, said = bench("run", "--preset", "quick", *words)
    assert code == 0
    assert said["counts"] == {"ok": len(TASKS.names())}
    cells = manifest.read(tmp_path / "quick").cells
    assert {cell["task"] for cell in cells} == set(TASKS.names())
    for cell in cells:
        result = manifest.cell_folder(tmp_path / "quick", cell["cell"]).result()
        assert result is not None
        assert result.status is Status.OK
        row = result.main_row(TASKS.card(cell["task"])["metric"])
        assert row is not None
        assert row.split == "test"
        assert row.value is not None
        if cell["task"] == "enwik8":
            assert 1 < row.value < 5.08  # bits, which a byte costs by its frequency alone
    page = (tmp_path / "quick" / "report" / "report.md").read_text(encoding="utf-8")
    assert page.count(": time and memory") == len(TASKS.names())
