"""Made-up text and worlds: no stretch of them is in two splits, nor in the training of two seeds."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch

from tasks import instruction, long_copy, object_collision
from tasks.train_settings import TrainSettings

TRAIN = TrainSettings(batch_size=4, evaluation_batch_size=4, block_length=16)
TASKS: list[tuple[ModuleType, Any]] = [
    (long_copy, long_copy.Settings(variant="full", n=16, unscored_tokens=0)),
    (long_copy, long_copy.Settings(variant="selective", n=16, k=4, unscored_tokens=0)),
    (instruction, instruction.Settings(unscored_tokens=0)),
    (object_collision, object_collision.Settings(grid=4, colours=2, burn_in_steps=50, unscored_tokens=0)),
]


def rows(source: Any) -> list[torch.Tensor]:
    """What each row says in its first blocks."""
    position, found = source.start(), []
    for _ in range(12):
        batch = source.read(position)
        found.append(batch.inputs)
        position = batch.position
    return list(torch.cat(found, dim=1))


def stretches(source: Any) -> set[tuple[int, ...]]:
    """All that its rows say, in pieces of 32 tokens, wherever they begin."""
    said = [row.tolist() for row in rows(source)]
    return {tuple(row[begin : begin + 32]) for row in said for begin in range(len(row) - 31)}


@pytest.mark.parametrize(("task", "settings"), TASKS, ids=["full", "selective", "instruction", "object_collision"])
def test_no_stretch_is_in_two_splits_or_seeds(task: ModuleType, settings: Any) -> None:
    sources = [task.training_source(settings, TRAIN, seed, range(4)) for seed in (0, 1)]
    sources += [task.evaluation_source(settings, TRAIN, split) for split in ("validation", "test")]
    for one, other in itertools.combinations([stretches(source) for source in sources], 2):
        assert len(one) > 500
        assert not one & other
