"""How a model is trained: `train.*`, the same for all methods of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from models.errors import SettingsError


@dataclass(frozen=True)
class TrainSettings:
    """Budget, batch, optimiser and schedule. Budgets are in steps, never in seconds."""

    steps: int = 1000
    """Training steps; one step reads one block of every row, or in an acting task plays an episode of every world."""
    batch_size: int = 32
    """B, rows read, or worlds acted in, side by side; over all devices."""
    block_length: int = 64
    """T, tokens that a row advances by in one step; in an acting task, steps that are learned from at a time."""
    accumulation: int = 1
    """Groups of rows whose gradients are added up before a step; every row keeps its own memory."""
    optimiser: Literal["adam", "adamw", "adagrad"] = "adam"
    """Adam, AdamW or Adagrad, at PyTorch's defaults but for what stands here."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """After warm-up: constant, or half a cosine that would reach zero with the step after the last."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly to its peak."""
    weight_decay: float = 0.0
    """Weight decay: decoupled with AdamW, added to the gradient with the others."""
    clip: float = 0.0
    """Largest norm of the gradient of all parameters together; 0 for no clipping."""
    validate_every: int = 500
    """Steps between two validations; the last step is always validated."""
    log_every: int = 50
    """Steps whose mean loss makes one entry of the learning curve."""
    checkpoint_every: int = 100
    """Steps between two checkpoints that an interrupted run goes on from; every validation makes one too."""
    evaluation_batch_size: int = 4
    """Rows that validation and test read side by side; fixed for all methods of a table."""

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "block_length",
            "accumulation",
            "validate_every",
            "log_every",
            "checkpoint_every",
            "evaluation_batch_size",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise SettingsError(f"train.{name}", f"is {getattr(self, name)}", "Give at least 1.")
        for name in ("warmup_steps", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"train.{name}", f"is {getattr(self, name)}", "Give 0 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise SettingsError("train.learning_rate", f"is {self.learning_rate}", "Give a positive number.")
        if self.warmup_steps > self.steps:
            raise SettingsError(
                "train.warmup_steps",
                f"{self.warmup_steps} is more than train.steps, {self.steps}",
                "The learning rate would never reach its peak; give fewer.",
            )
        if self.batch_size % self.accumulation:
            raise SettingsError(
                "train.accumulation",
                f"{self.accumulation} groups do not divide {self.batch_size} rows",
                "Choose a divisor of train.batch_size.",
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step that follows `step` finished ones."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def build_optimiser(train: TrainSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that `train` names."""
    classes: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
    }
    return classes[train.optimiser](parameters, lr=train.learning_rate, weight_decay=train.weight_decay)
