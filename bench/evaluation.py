"""Evaluates a trained model again, as it is or with the spans it predicts replaced.

The replacements ask whether what was learned is used: every span replaced by its layer's mean (the same memory, without
the choice of what to remember), spans shuffled among the tokens of a block (the same spans on the wrong tokens), spans
cut at a maximum.

A model is evaluated on what this machine has, whatever it was trained on: one device, in float32, or float64 where it
was trained so. Its spans are measured in a pass of their own, so that a model evaluated as it is takes exactly the path
of its cell's test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from bench.cell import Parts, build_parts, build_trainer, quiet
from bench.checkpoints import load
from bench.devices import device_name
from bench.evaluation_choices import EDITS, SPLITS
from bench.executors.device_lock import DeviceLock
from bench.spec import CellSpec
from models.errors import SettingsError
from tasks.episode_module import EpisodeModule
from tasks.randomness import derive
from tasks.stream import Score


@dataclass(frozen=True)
class SpanFigures:
    """Predicted spans of one layer over the tokens of a split, in tokens."""

    layer: int
    mean: float
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation gave: the task's scores, what memory held, and the spans predicted where none is replaced."""

    spec: CellSpec
    split: str
    scores: list[Score]
    statistics: dict[str, float]
    spans: list[SpanFigures]


class SpanRecord:
    """Keeps the spans that go by, and hands on what is to be used instead.

    Args:
        edit: one of EDITS.
        means: per layer, for the edit ``mean``.
        longest: spans are cut at this many tokens; None for no cut.
        seed: of the shuffling.
    """

    def __init__(self, edit: str, means: list[float], longest: float | None, seed: int) -> None:
        self.edit, self.means, self.longest, self.seed = edit, means, longest, seed
        self.seen: dict[int, list[Tensor]] = {}
        self.tokens: list[Tensor] = []

    def __call__(self, layer: int, spans: Tensor) -> Tensor:
        blocks = self.seen.setdefault(layer, [])
        blocks.append(spans.float().cpu())
        if self.edit == "mean":
            spans = torch.full_like(spans, self.means[layer])
        elif self.edit == "shuffled":
            draws = torch.Generator().manual_seed(derive(self.seed, "shuffle", layer, len(blocks)))
            order = torch.rand(spans.shape, generator=draws).argsort(1).to(spans.device)
            spans = spans.gather(1, order)
        return spans if self.longest is None else spans.clamp(max=self.longest)

    def figures(self) -> list[SpanFigures]:
        """The spans as they were predicted, of the split's tokens: not of those that fill up its last block."""
        return [
            SpanFigures(layer, float(values.mean()), *(float(p) for p in np.percentile(values, (10, 50, 90))))
            for layer, blocks in sorted(self.seen.items())
            for values in [torch.cat(blocks, dim=1)[torch.cat(self.tokens, dim=1)].numpy()]
        ]


def evaluate(
    checkpoint: Path,
    split: str = "test",
    edit: str = "learned",
    longest: float | None = None,
    untrained: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Scores a checkpoint's model on a whole split. While the clock has the device, it waits.

    Args:
        checkpoint: a cell's ``best.ckpt`` or ``last.ckpt``.
        split: ``validation`` or ``test``.
        edit: what to do with predicted spans, one of EDITS.
        longest: cut spans at this many tokens.
        untrained: evaluate the model as it was initialised.
        waiting: called once if it has to wait.

    Raises:
        SettingsError: an argument cannot be used, the checkpoint cannot be read or does not fit today's code, or the
            method predicts no spans to replace.
    """
    _check(split, edit, longest)
    saved = load(checkpoint)
    spec = _spec(checkpoint, saved)
    here = _on_this_machine(spec)
    with DeviceLock(device_name(here.trainer["accelerator"])).shared(waiting):
        parts = build_parts(here)
        check = getattr(parts.task, "check", None)
        if check is not None:  # the data may have gone since the training
            check(parts.task_settings, parts.train)
        if not untrained:
            _load_weights(checkpoint, saved, parts)
        if edit == "shuffled" and isinstance(parts.module, EpisodeModule):
            problem = f"shuffles the tokens of a block, and an agent in {spec.task} reads one at a time"
            raise SettingsError("--spans", problem, "Give mean.")
        replaces = edit != "learned" or longest is not None
        spans: list[SpanFigures] = []
        if parts.model.layers()[0].mixer.predicts_spans:
            predicted = SpanRecord("learned", [], None, spec.seed)
            _run(parts, here, checkpoint.parent, split, predicted)
            spans = predicted.figures()
        elif replaces:
            flag = "--max-span" if edit == "learned" else "--spans"
            raise SettingsError(flag, f"{spec.method} predicts no spans", "Take a checkpoint of expire_span.")
        record = SpanRecord(edit, [layer.mean for layer in spans], longest, spec.seed) if replaces else None
        _run(parts, here, checkpoint.parent, split, record)
        return Evaluation(spec, split, parts.module.scores, parts.module.statistics, spans)


def _check(split: str, edit: str, longest: float | None) -> None:
    if split not in SPLITS:
        raise SettingsError("--split", f"there is no split {split!r}", f"Known: {', '.join(SPLITS)}.")
    if edit not in EDITS:
        raise SettingsError("--spans", f"there is no edit {edit!r}", f"Known: {', '.join(EDITS)}.")
    if longest is not None and not 0 < longest < math.inf:
        raise SettingsError("--max-span", f"is {longest}", "Give a positive number of tokens.")


def _spec(checkpoint: Path, saved: dict[str, Any]) -> CellSpec:
    """The spec that stands in a checkpoint, with the files that its study knows."""
    remedy = "Take the best.ckpt or last.ckpt of a cell."
    if not isinstance(saved.get("spec"), str):
        raise SettingsError("spec", "is missing from the checkpoint", remedy, str(checkpoint))
    try:
        content = json.loads(saved["spec"])
    except ValueError as error:
        raise SettingsError("spec", f"is not JSON: {error}", remedy, str(checkpoint)) from error
    parents = checkpoint.resolve().parents  # checkpoints, the cell, cells, the study
    return CellSpec.from_json(content, checkpoint).located(parents[min(3, len(parents) - 1)])


def _on_this_machine(spec: CellSpec) -> CellSpec:
    """The spec with what its training ran on replaced by one device of this machine, at full precision."""
    trainer = {
        "accelerator": "auto",
        "devices": 1,
        "enable_progress_bar": False,
        "deterministic": spec.trainer.get("deterministic", False),
    }
    return replace(spec, trainer=trainer, precision="64-true" if spec.precision == "64-true" else "32-true")


def _load_weights(checkpoint: Path, saved: dict[str, Any], parts: Parts) -> None:
    try:
        parts.model.load_state_dict(saved["model"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise SettingsError(
            "CHECKPOINT",
            f"the weights in {checkpoint} do not fit the model that today's code builds: {error}",
            "Evaluate it with the version of the code that trained it, or train the cell again.",
        ) from error


class NoteSteps(pl.Callback):
    """Tells a SpanRecord in which steps of the episodes a world had not ended."""

    def __init__(self, record: SpanRecord) -> None:
        self.record = record

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, EpisodeModule)
        self.record.tokens.append(pl_module.alive.cpu())

    on_validation_batch_end = on_test_batch_end


class NoteTokens(pl.Callback):
    """Tells a SpanRecord which tokens of a block are the split's, and do not fill up its last block."""

    def __init__(self, record: SpanRecord) -> None:
        self.record = record

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        weights = batch.weights.cpu()
        blocks = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        # In the last block, whatever stands behind the last token that counts; elsewhere a task may just not ask there.
        behind = weights.flip(1).cumsum(1).flip(1) == 0 if batch_idx == blocks[0] - 1 else torch.zeros_like(weights) > 0
        self.record.tokens.append(~behind)

    on_validation_batch_start = on_test_batch_start


def _run(parts: Parts, spec: CellSpec, folder: Path, split: str, record: SpanRecord | None) -> None:
    parts.module.edit_spans = record
    note = NoteSteps if isinstance(parts.module, EpisodeModule) else NoteTokens
    with quiet():
        trainer = build_trainer(spec, folder, [] if record is None else [note(record)], None, 1)
        if split == "validation":
            trainer.validate(parts.module, datamodule=parts.data, verbose=False)
        else:
            trainer.test(parts.module, datamodule=parts.data, verbose=False)
