"""What a cell writes while it trains: its learning curve into `metrics.jsonl`, its progress into the heartbeat."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger

from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim
from tasks.stream_module import StreamModule


class MetricsLog(Logger):
    """Lightning's logger that appends to the cell's `metrics.jsonl`.

    Args:
        folder: the cell's.
        earlier: seconds that earlier attempts of this cell took.
    """

    def __init__(self, folder: CellFolder, earlier: float) -> None:
        super().__init__()
        self.folder, self.begin = folder, time.perf_counter() - earlier

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Settings stand in `spec.json`."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends figures named ``split/metric``."""
        seconds = round(time.perf_counter() - self.begin, 3)
        records: list[dict[str, Any]] = []
        for name, value in metrics.items():
            split, slash, metric = name.partition("/")
            if slash:  # Lightning adds names of its own, such as epoch
                records.append({"step": step, "metric": metric, "value": value, "split": split, "seconds": seconds})
        if records:
            self.folder.append(records)


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
        assert isinstance(pl_module, StreamModule)
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
        assert isinstance(pl_module, StreamModule)
        self._tell("test" if trainer.testing else "validation", pl_module.step, self.steps)

    on_test_batch_end = on_validation_batch_end
