"""The tasks that exist, found by file name as the methods are."""

from __future__ import annotations

from pathlib import Path

from models.registry import Registry

TASKS = Registry(
    "task",
    "tasks",
    Path(__file__).parent,
    required=("title", "metric", "unit", "higher_is_better", "version", "objective", "sizes"),
)
