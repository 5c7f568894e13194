"""The Lightning module for documents: labels whole ones, each with a memory of its own, and scores whole splits.

One training step reads one document of every row. It is read block by block as a stream is; what differs is that the
optimiser steps once per document, and that a method may read it twice (`tasks/document_step.py`).
"""

from __future__ import annotations

from typing import Any

from models.backbone import Backbone
from tasks.document_step import labelled, read_document
from tasks.randomness import derive, seed_generators, uniform
from tasks.stream import StreamBatch, StreamTask
from tasks.stream_module import StreamModule
from tasks.stream_step import token_nll
from tasks.train_settings import TrainSettings


class DocumentModule(StreamModule):
    """Trains a model on documents of `document_tokens` tokens; other arguments as for `StreamModule`."""

    def __init__(self, model: Backbone, train: TrainSettings, new_scorer: Any, seed: int, document_tokens: int) -> None:
        super().__init__(model, train, new_scorer, seed)
        self.document_tokens = document_tokens

    def trained(self) -> tuple[str, int, str]:
        train = self.settings
        return "train_tokens", train.steps * train.batch_size * self.document_tokens, "tokens"

    def training_step(self, batch: StreamBatch, batch_idx: int) -> None:
        seed_generators(derive(self.seed, "step", self.step, "rank", self.global_rank))
        randomness = uniform(self.seed, "step", self.step, "shared")
        self.carried = None  # what the last document left; it serves `held` alone
        read = read_document(
            self.model, batch, randomness, self.settings.accumulation, self._divisor(batch), self.manual_backward
        )
        if read.learns:
            self._update()
        self.carried = read.state
        self._stepped(batch.position, read.nats, batch.weights.sum(), read.statistics)

    def resume_state(self) -> dict[str, Any]:
        last, self.carried = self.carried, None  # the next document begins with nothing
        saved = super().resume_state()
        self.carried = last
        return saved

    def evaluate(self, batch: StreamBatch) -> dict[str, float]:
        named: dict[str, list[float]] = {}
        for block, output in labelled(self.model, batch, self.edit_spans):
            self.scorer.add(block, output.y, token_nll(output, block))
            statistics = {name: float(value) for name, value in output.statistics.items()}
            for name, value in {**self.model.memory(output.state), **statistics}.items():
                named.setdefault(name, []).append(value)
        return {
            name: max(values) if name.startswith("max_") else sum(values) / len(values)
            for name, values in named.items()
        }


def module(task: StreamTask, settings: Any, model: Backbone, train: TrainSettings, seed: int) -> DocumentModule:
    """The module of one task with its settings, for `tasks.objectives`."""
    return DocumentModule(model, train, lambda: task.scorer(settings, train), seed, int(settings.document_tokens))
