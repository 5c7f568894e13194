"""A cell's learning curve: what Lightning logs, appended to `metrics.jsonl`."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from bench.store.cell_folder import CellFolder


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
