"""How far a cell is, told to the heartbeat of its claim while it trains, validates and tests."""

from __future__ import annotations

import pytorch_lightning as pl

from bench.store.claim import Claim
from tasks.task_module import TaskModule


class Progress(pl.Callback):
    """Tells the claim how far the cell is."""

    def __init__(self, claim: Claim | None, steps: int) -> None:
        self.claim, self.steps = claim, steps

    def _tell(self, phase: str, step: int, steps: int) -> None:
        if self.claim is not None:
            self.claim.progress(phase, step, steps)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TaskModule)
        self._tell("training", pl_module.step, self.steps)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, TaskModule)
        self._tell("test" if trainer.testing else "validation", pl_module.step, self.steps)

    on_test_batch_end = on_validation_batch_end
