"""Cells that are decided on while others run: what a sweep gives `bench.runner.run_study` in place of a list."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from bench.store.manifest import Spec
from bench.store.study_status import CellState


class CellSource(Protocol):
    """Gives a run its cells one by one, watches them, and takes in how they ended."""

    def next(self) -> Spec | None:
        """A cell to run now; None where there is none at the moment. One that has a result is not run again."""
        ...

    def exhausted(self) -> bool:
        """Whether `next` will never give a cell again."""
        ...

    def to_prune(self, running: Collection[str]) -> Mapping[str, str]:
        """Which of the cells that run here are to be ended with status pruned: id to reason. Asked every second."""
        ...

    def ended(self, state: CellState) -> None:
        """Takes in how a cell stands that is done. Its status is no result's where its process has given it up."""
        ...
