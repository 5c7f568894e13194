"""What the clock times of tasks of documents: one document of every row, read from its beginning to its end.

Memory begins empty with each document, so there is nothing to fill before.
"""

from __future__ import annotations

import torch

from bench.clock.workload import EvaluationStep, TrainingStep
from models.errors import Unsupported
from tasks.document_step import labelled, read_document
from tasks.randomness import derive, seed_generators, uniform
from tasks.stream_step import loss_divisor


class DocumentTrainingStep(TrainingStep):
    """Forward, backward, clipping and optimiser on documents of the training stream, outside Lightning's Trainer."""

    def fill(self) -> None:
        """There is nothing to fill; the state is a fresh one until the first step."""
        if self.edit_spans is not None:
            raise Unsupported("the share of memories alive cannot be set where documents are read from their beginning")
        self.state = self.model.init_state(self.train.batch_size)

    def step(self) -> None:
        """One training step, as `DocumentModule.training_step` takes it."""
        assert self.batch is not None
        seed_generators(derive(self.seed, "step", self.count, "rank", 0))
        self.state = None  # as in training, the last document's memory is not held while the next is read
        with self.autocast():
            read = read_document(
                self.model,
                self.batch,
                uniform(self.seed, "step", self.count, "shared"),
                self.train.accumulation,
                loss_divisor(self.batch.weights.sum()),
                self.update.backward,
            )
        self.state = read.state
        if read.learns:
            self.update.step()
        self.count += 1


class DocumentEvaluationStep(EvaluationStep):
    """The next document of the validation split, labelled, in as many rows as validation reads."""

    def fill(self) -> None:
        """Labels one, for a memory to be there that can be looked at."""
        self.fetch()
        self.step()

    def step(self) -> None:
        """Labels the document."""
        assert self.batch is not None
        self.state = None
        with torch.no_grad(), self.autocast():
            for _, output in labelled(self.model, self.batch):
                self.state = output.state
