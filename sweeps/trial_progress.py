"""What a sweep shows while it works: the run's progress, told in trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.executors.progress import Progress, Standing
from bench.store.study_status import CellState


class TrialProgress(Progress):
    """Passes on what a run shows, with trials in place of cells.

    Args:
        inner: what shows it.
        begins: the line to begin with.
        label: a cell's trials in words.
        total: how many trials are left to end.
        metric: what they are judged by; its value on validation is shown, as test is not what a sweep chooses by.
    """

    def __init__(self, inner: Progress, begins: str, label: Callable[[str], str], total: int, metric: str) -> None:
        self._inner, self._begins, self._label = inner, begins, label
        self._total, self._metric = total, metric
        self._labels: dict[str, str] = {}

    def begin(self, line: str) -> None:
        """Shows what the sweep is going to do."""
        self._inner.begin(self._begins)

    def say(self, line: str) -> None:
        """Shows a line."""
        self._inner.say(line)

    def warn(self, line: str) -> None:
        """Shows a problem."""
        self._inner.warn(line)

    def tick(self, standing: Standing) -> None:
        """Is called about once a second."""
        self._inner.tick(self._translated(standing))

    def ended(self, state: CellState, standing: Standing) -> None:
        """Shows how a trial has ended."""
        self._inner.ended(self._named(state), self._translated(standing))

    def close(self) -> None:
        """Shows nothing any more."""
        self._inner.close()

    def _named(self, state: CellState) -> CellState:
        if state.cell not in self._labels:
            self._labels[state.cell] = self._label(state.cell)
        rows = state.result.rows if state.result is not None else []
        judged = next((row for row in rows if (row.metric, row.split) == (self._metric, "validation")), None)
        return replace(state, cell=self._labels[state.cell], main=judged)

    def _translated(self, standing: Standing) -> Standing:
        return replace(standing, total=self._total, running=[self._named(one) for one in standing.running])
