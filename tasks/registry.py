"""The tasks that exist, found by file name as the methods are."""

from __future__ import annotations

from pathlib import Path

from models.registry import Registry

TASKS = Registry(
    "task",
    "tasks",
    Path(__file__).parent,
    card_kinds={
        "title": str,
        "metric": str,
        "unit": str,
        "higher_is_better": bool,
        "version": int,
        "objective": str,
        "sizes": list,
    },
)
