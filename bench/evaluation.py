"""Evaluates a trained model again, as it is or with the spans it predicts replaced.

The replacements ask whether what was learned is used: every span replaced by its layer's mean (the same memory, without
the choice of what to remember), spans shuffled among the tokens of a block (the same spans on the wrong tokens), spans
cut at a maximum.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.cell import Parts, build_parts, build_trainer, quiet
from bench.checkpoints import load
from bench.spec import CellSpec
from models.errors import SettingsError
from tasks.randomness import derive
from tasks.stream import Score

EDITS = ("learned", "mean", "shuffled")


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
    """What one evaluation gave: the task's scores, what memory held, and the spans predicted before any replacement."""

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
        """The spans as they were predicted."""
        return [
            SpanFigures(layer, float(values.mean()), *(float(p) for p in np.percentile(values, (10, 50, 90))))
            for layer, blocks in sorted(self.seen.items())
            for values in [torch.cat(blocks, dim=1).numpy()]
        ]


def evaluate(
    checkpoint: Path,
    split: str = "test",
    edit: str = "learned",
    longest: float | None = None,
    untrained: bool = False,
) -> Evaluation:
    """Scores a checkpoint's model on a whole split.

    Args:
        checkpoint: a cell's ``best.ckpt`` or ``last.ckpt``.
        split: ``validation`` or ``test``.
        edit: what to do with predicted spans, one of EDITS.
        longest: cut spans at this many tokens.
        untrained: evaluate the model as it was initialised.

    Raises:
        SettingsError: the checkpoint cannot be read, or the method predicts no spans to replace.
    """
    saved = load(checkpoint)
    spec = CellSpec.from_json(json.loads(saved["spec"]), checkpoint.name)
    parts = build_parts(spec)
    if not untrained:
        parts.model.load_state_dict(saved["model"])
    predicts = parts.model.layers()[0].mixer.predicts_spans
    if not predicts and (edit != "learned" or longest is not None):
        raise SettingsError("--spans", f"{spec.method} predicts no spans", "Take a checkpoint of expire_span.")
    means: list[float] = []
    if edit == "mean":
        means = [
            figures.mean for figures in _run(parts, spec, checkpoint.parent, split, SpanRecord("learned", [], None, 0))
        ]
    record = SpanRecord(edit, means, longest, spec.seed) if predicts else None
    spans = _run(parts, spec, checkpoint.parent, split, record)
    return Evaluation(spec, split, parts.module.scores, parts.module.statistics, spans)


def _run(parts: Parts, spec: CellSpec, folder: Path, split: str, record: SpanRecord | None) -> list[SpanFigures]:
    parts.module.edit_spans = record
    with quiet():
        trainer = build_trainer(spec, folder, [], None, 1)
        if split == "validation":
            trainer.validate(parts.module, datamodule=parts.data, verbose=False)
        else:
            trainer.test(parts.module, datamodule=parts.data, verbose=False)
    return record.figures() if record is not None else []
