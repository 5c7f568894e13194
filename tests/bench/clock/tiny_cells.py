"""Cells of a few hundred weights for the clock, and a method from outside the tree that shows what is done with it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import checkpoints
from bench.cell import build_parts
from bench.spec import CellSpec, TrainerSettings
from bench.store import manifest
from bench.store.result import Result, Row
from bench.store.statuses import Status
from models.backbone import BackboneSettings
from models.checkout import CHECKOUT
from models.registry import METHODS, content_hash
from tasks import enwik8
from tasks.train_settings import TrainSettings

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "full_attention": {"max_span": 20},
    "transformer_xl": {"memory_length": 12},
    "adaptive_span": {"max_span": 24, "ramp": 4, "coefficient": 0.01, "trim_step": 4, "initial_ratio": 0.5},
    "compressive": {"memory_length": 8, "compress_size": 16},
    "expire_span": {"max_span": 40, "ramp": 4, "coefficient": 1e-3},
}

PROBE = '''"""A method that adds the token before, and at a call of `forward` does what its settings say.

Calls are counted from 1 in each process. State: `last` [B, 1, E].
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from dataclasses import dataclass

import torch

from models.mixer import Context, Mixed, Mixer, Sizes

CARD = {
    "title": "Probe",
    "family": "none",
    "paper": "none",
    "impls": ["reference", "fast"],
    "colour": "#000",
    "marker": "o",
}


@dataclass(frozen=True)
class Settings:
    """Settings of `probe`."""

    log: str = ""
    """File to which each call adds its process, beginning and end."""
    seconds: float = 0.0
    """How long a call takes."""
    at: int = 0
    """The call at which the deed is done."""
    deed: str = ""
    """raise, kill, killed once, memory, hang, or alone: out of memory while another process has the lock."""
    lock: str = ""
    """A lock, held from the beginning (unless the deed is `alone`) to the end of the process."""
    fault: float = 0.0
    """By which share the output of the impl `fast` is wrong."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """It has one size."""
    return Settings()


def mixer_class(settings: Settings, impl: str) -> type[Method]:
    return Fast if impl == "fast" else Method


class Method(Mixer):
    """Adds the token before."""

    fault = 0.0

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.width, self.calls = settings, sizes.width, 0
        self.scale = torch.nn.Parameter(torch.ones(sizes.width))
        if settings.lock and settings.deed != "alone":
            self.lock = open(settings.lock, "w")
            fcntl.flock(self.lock, fcntl.LOCK_SH)

    def init_state(self, batch: int) -> dict[str, torch.Tensor]:
        return {"last": self.zeros(batch, 1, self.width)}

    def slots(self, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        return torch.ones(state["last"].shape[0]), 1

    def horizon(self) -> int:
        return 1

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor], context: Context) -> Mixed:
        begin = time.monotonic()
        self.calls += 1
        if self.calls == self.settings.at:
            self.do(self.settings.deed)
        time.sleep(self.settings.seconds)
        y = self.scale * torch.cat([state["last"], x[:, :-1]], dim=1) * (1 + self.fault)
        if self.settings.log:
            with open(self.settings.log, "a") as log:
                log.write(f"{os.getpid()} {begin} {time.monotonic()}\\\\n")
        return Mixed(y, {"last": x[:, -1:].detach()})

    def do(self, deed: str) -> None:
        if deed == "raise":
            raise ValueError("the probe is broken")
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "killed once" and not os.path.exists(mark := self.settings.log + ".killed"):
            open(mark, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "memory":
            raise MemoryError
        if deed == "hang":
            time.sleep(600)
        if deed == "alone":
            with open(self.settings.lock, "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise MemoryError from None


class Fast(Method):
    """The same, but for its fault."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.fault = settings.fault
'''


def write_text(folder: Path) -> str:
    """A file of 24,000 bytes."""
    path = folder / "corpus.txt"
    path.write_bytes(b"the quick brown fox jumps over the lazy dog; " * 534)
    return str(path)


def write_probe(folder: Path) -> Path:
    """The method `probe` as a file."""
    path = folder / "probe.py"
    path.write_text(PROBE.replace("\\\\", "\\"))
    return path


def entry_of(plugin: Path) -> dict[str, str]:
    """A plugin as it stands in a cell's spec."""
    place = os.path.relpath(plugin.resolve(), CHECKOUT)
    return {"kind": "method", "id": plugin.stem, "path": place, "sha256": content_hash(plugin)}


def spec(
    text: str,
    method: str,
    plugin: Path | None = None,
    *,
    impl: str = "reference",
    seed: int = 0,
    layers: int = 2,
    dropout: float = 0.0,
    settings: dict[str, Any] | None = None,
    **train: Any,
) -> CellSpec:
    """A cell on the file `text`; `settings` are the method's, the rest goes to ``train``."""
    base = {"steps": 4, "batch_size": 4, "block_length": 8, "validate_every": 4, "evaluation_batch_size": 2}
    own = {**METHOD_SETTINGS.get(method, {}), **(settings or {})}
    values = own if plugin else asdict(METHODS.load(method).Settings(**own))
    return CellSpec(
        task="enwik8",
        task_label="bytes-corpus",
        task_version=1,
        task_settings=asdict(enwik8.Settings(path=text)),
        method=method,
        variant="",
        method_settings=values,
        impl=impl,
        backbone=asdict(BackboneSettings(layers=layers, width=16, feedforward=24, heads=2, dropout=dropout)),
        train=asdict(TrainSettings(**{**base, **train})),
        trainer=asdict(TrainerSettings(accelerator="cpu")),
        precision="32-true",
        seed=seed,
        plugins=[entry_of(plugin)] if plugin else [],
    )


def finish(study: Path, cells: list[CellSpec], without_weights: tuple[str, ...] = ()) -> None:
    """Makes cells those of a study that has run: ok, with initial weights as its best, but for the methods named."""
    titles: dict[str, dict[str, Any]] = {
        "methods": {"transformer_xl": {"title": "Transformer-XL"}, "expire_span": {"title": "Expire-Span"}},
        "tasks": {"enwik8": {"title": "enwik8", "metric": "bpb", "unit": "bits/byte", "higher_is_better": False}},
    }
    manifest.merge(study, cells, titles=titles)
    for cell in cells:
        folder = manifest.cell_folder(study, cell.id)
        folder.create(cell.to_json())
        rows = [Row("bpb", 2.5, "bits/byte", "test", n=100, higher_is_better=False)]
        folder.write_result(Result(cell.id, Status.OK, rows=rows, attempt=1, seconds=1.0))
        if cell.method not in without_weights:
            with torch.random.fork_rng():
                weights = build_parts(cell).model.state_dict()
            checkpoints.save(folder.checkpoints / "best.ckpt", {"model": weights, "step": 4})
