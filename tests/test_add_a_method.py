"""The method in docs/add-a-method.md runs from outside the tree, obeys the contract, and stands in the table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from models.backbone import BackboneSettings
from models.mixer import Context
from models.registry import load_file


@pytest.fixture(scope="module")
def plugin(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's only Python block, as a file."""
    blocks = re.findall(r"```python\n(.*?)```", (checkout / "docs" / "add-a-method.md").read_text(), re.S)
    assert len(blocks) == 1
    path = tmp_path_factory.mktemp("plugin") / "decaying_mean.py"
    path.write_text(blocks[0])
    return path


def test_the_example_is_causal_and_reads_the_same_in_pieces(plugin: Path) -> None:
    module = load_file(plugin)
    torch.manual_seed(0)
    sizes = BackboneSettings(layers=1, width=16, heads=2).sizes(12)
    layer = module.Method(module.Settings(), sizes).double()
    x, context = torch.randn(2, 36, 16, dtype=torch.double), Context(nn.Identity())

    def read(x: torch.Tensor, size: int) -> torch.Tensor:
        state, outputs = layer.init_state(2), []
        for piece in torch.split(x, size, dim=1):
            mixed = layer(piece, state, context)
            state = mixed.state
            outputs.append(mixed.y)
        return torch.cat(outputs, dim=1)

    whole = read(x, 12)
    for size in (1, 7):
        torch.testing.assert_close(read(x, size), whole, rtol=0, atol=1e-9)
    changed = x.clone()
    changed[:, 20:] += 1
    assert torch.equal(read(changed, 12)[:, :20], whole[:, :20])


@pytest.mark.slow
def test_it_trains_beside_the_others_and_stands_in_the_table(plugin: Path, checkout: Path, tmp_path: Path) -> None:
    text = tmp_path / "corpus.txt"
    text.write_bytes(b"the quick brown fox jumps over the lazy dog. " * 400)
    arguments = f"""
        run --preset quick --tasks enwik8 --methods transformer_xl,decaying_mean+longest=20 --jobs 2
        --out {tmp_path / "s"} --plugin {plugin} --set task.enwik8.path={text} train.steps=4 train.validate_every=4
        train.block_length=16 train.evaluation_batch_size=2 clock.rounds=2 clock.steps=2 clock.seconds=0
        wandb.mode=disabled
    """
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments.split()],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["counts"] == {"ok": 2}
    page = Path(last["report"]).with_suffix(".md").read_text()
    assert "| Decaying mean (longest=20)" in page
    assert "bytes-corpus" in page
    specs = [json.loads(path.read_text()) for path in (tmp_path / "s").glob("cells/*decaying_mean*/spec.json")]
    assert [entry["id"] for entry in specs[0]["plugins"]] == ["decaying_mean"]
    assert specs[0]["method_settings"] == {"longest": 20.0}
