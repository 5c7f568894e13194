"""Training on several processes with gloo: the same weights as one process gives, and the same exact resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.registry import load_file

HERE = Path(__file__).parent
toy = load_file(HERE / "toy_training.py")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy.write_text(tmp_path_factory.mktemp("text")))


def on_two_processes(method: str, text: str, out: Path, accumulation: int = 1, stop: int = 0) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(HERE / "two_ranks.py"), method, text, str(out), str(accumulation), str(stop)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert run.returncode == 0, run.stdout + run.stderr


def as_one(module: Any, out: Path) -> Any:
    """What the two processes came to: the score and the weights that the module has, trained by one process."""
    together = torch.load(out / "trained.ckpt", weights_only=True)
    assert together["score"] == pytest.approx(module.scores[0].value, abs=1e-9)
    for name, tensor in module.model.state_dict().items():
        torch.testing.assert_close(together["model"][name], tensor, rtol=0, atol=1e-9)
    return together


@pytest.mark.slow
def test_two_processes_train_as_one_and_go_on_exactly_where_they_were_stopped(text: str, tmp_path: Path) -> None:
    module, data = toy.module_and_data(text, "expire_span", dropout=0.0, clip=0.5)
    toy.fit(module, data)
    on_two_processes("expire_span", text, tmp_path)
    undisturbed = as_one(module, tmp_path)
    (tmp_path / "trained.ckpt").unlink()

    on_two_processes("expire_span", text, tmp_path, stop=7)
    assert (tmp_path / "stopped.ckpt").stat().st_size > 0
    on_two_processes("expire_span", text, tmp_path)
    resumed = as_one(module, tmp_path)
    assert resumed["score"] == undisturbed["score"]
    for name, tensor in undisturbed["model"].items():
        assert torch.equal(resumed["model"][name], tensor), name


@pytest.mark.slow
def test_two_processes_that_accumulate_gradients_train_as_one(text: str, tmp_path: Path) -> None:
    module, data = toy.module_and_data(text, "adaptive_span", dropout=0.0, clip=0.5)
    toy.fit(module, data)
    on_two_processes("adaptive_span", text, tmp_path, accumulation=2)
    as_one(module, tmp_path)


@pytest.mark.slow
def test_two_processes_label_documents_as_one(tmp_path: Path) -> None:
    module, data = toy.documents_and_data("memory_transformer")
    toy.fit(module, data)
    on_two_processes("memory_transformer", "documents", tmp_path, accumulation=2)
    assert as_one(module, tmp_path)["score"] == module.scores[0].value
