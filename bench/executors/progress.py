"""What a run shows while it works: a live table on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.store.statuses import WELL, Status
from bench.store.study_status import CellState, count

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_EVERY_S = 10.0
"""Seconds between two summaries in plain lines."""


@dataclass
class Standing:
    """Where a run is."""

    total: int
    waiting: int = 0
    elsewhere: int = 0
    """Cells that another runner has."""
    done: list[Status] = field(default_factory=list)
    running: list[CellState] = field(default_factory=list)

    def summary(self) -> str:
        """In one line: ``5/12 done (4 ok, 1 error), 2 running, 5 waiting``."""
        counts = ", ".join(f"{number} {status}" for status, number in count(self.done).items())
        parts = [f"{len(self.done)}/{self.total} done" + (f" ({counts})" if counts else "")]
        parts += [f"{len(self.running)} running"] if self.running else []
        parts += [f"{self.waiting} waiting"] if self.waiting else []
        parts += [f"{self.elsewhere} run by another runner"] if self.elsewhere else []
        return ", ".join(parts)


class Progress:
    """Shows nothing; what ``--quiet`` uses, and what the others build on."""

    def begin(self, line: str) -> None:
        """Shows what the run is going to do."""

    def say(self, line: str) -> None:
        """Shows a line."""

    def tick(self, standing: Standing) -> None:
        """Is called about once a second."""

    def ended(self, state: CellState, standing: Standing) -> None:
        """Shows how a cell has ended."""

    def close(self) -> None:
        """Shows nothing any more."""

    def warn(self, line: str) -> None:
        """Shows a problem, on stderr: with ``--quiet`` too."""
        _print(line, sys.stderr)


class PlainLines(Progress):
    """A line at the start, at each cell's end, and every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def begin(self, line: str) -> None:
        """Shows what the run is going to do."""
        _print(line, sys.stdout)

    def say(self, line: str) -> None:
        """Shows a line."""
        _print(line, sys.stdout)

    def tick(self, standing: Standing) -> None:
        """Shows a summary, every ten seconds."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            where = "; ".join(f"{state.cell} {where_in(state)}".rstrip() for state in standing.running)
            _print(standing.summary() + (f": {where}" if where else ""), sys.stdout)

    def ended(self, state: CellState, standing: Standing) -> None:
        """Shows how a cell has ended."""
        width = len(str(standing.total))
        _print(f"[{len(standing.done):>{width}}/{standing.total}] {end_of(state)}", sys.stdout)


class LiveTable(Progress):
    """The cells that run, with bars, below the lines of those that have ended. Needs rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live: Live = Live(console=self._console, refresh_per_second=2, transient=True)
        self._live.start()

    def begin(self, line: str) -> None:
        """Shows what the run is going to do."""
        self.say(line)

    def say(self, line: str) -> None:
        """Shows a line above the table."""
        self._show(line, None)

    def warn(self, line: str) -> None:
        """Shows a problem above the table."""
        self._show(line, "red")

    def _show(self, line: str, style: str | None) -> None:
        with _without_reader():
            self._console.print(line, markup=False, soft_wrap=True, style=style)

    def tick(self, standing: Standing) -> None:
        """Draws the table anew."""
        with _without_reader():
            self._live.update(_table(standing))

    def ended(self, state: CellState, standing: Standing) -> None:
        """Shows how a cell has ended, above the table."""
        self._show(end_of(state), None if state.status in WELL else "red")
        self.tick(standing)

    def close(self) -> None:
        """Takes the table away."""
        with _without_reader():
            self._live.stop()


def make(quiet: bool) -> Progress:
    """The progress that suits where stdout goes."""
    if quiet:
        return Progress()
    return LiveTable() if sys.stdout.isatty() else PlainLines()


class StageLine:
    """Shows what a longer piece of work is at: one changing line on a terminal, a line every few seconds elsewhere."""

    _EVERY_S = 5.0

    def __init__(self, quiet: bool) -> None:
        self._status: Any = None
        self._quiet, self._last = quiet, -self._EVERY_S
        if not quiet and sys.stdout.isatty():
            from rich.console import Console

            self._status = Console(highlight=False).status("")
            self._status.start()

    def __call__(self, line: str) -> None:
        """Shows a line."""
        if self._status is not None:
            with _without_reader():
                self._status.update(line)
        elif not self._quiet and time.monotonic() - self._last >= self._EVERY_S:
            self._last = time.monotonic()
            _print(line, sys.stdout)

    def close(self) -> None:
        """Takes the line away."""
        if self._status is not None:
            with _without_reader():
                self._status.stop()


def end_of(state: CellState) -> str:
    """How a cell ended, in one line: status, id, main metric or reason, wall time."""
    parts = [f"{state.status:<11} {state.cell}"]
    if state.main is not None and state.main.value is not None:
        parts.append(f"{state.main.metric} {state.main.value:.4g} {state.main.unit}".rstrip())
    if state.reason:
        parts.append(state.reason)
    if state.seconds is not None:
        parts.append(f"{state.seconds:.0f} s")
    return "  ".join(parts)


def where_in(state: CellState) -> str:
    """How far a running cell is: ``train 300/1400``."""
    if not state.step:
        return state.phase
    return f"{state.phase} {state.step}" + (f"/{state.steps}" if state.steps else "")


def _table(standing: Standing) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for state in standing.running:
        bar: Any = ProgressBar(total=state.steps, completed=state.step, width=30) if state.steps else Text("")
        table.add_row(Text(state.cell), bar, Text(where_in(state)))
    return Group(table, Text(standing.summary()))


def _print(line: str, stream: Any) -> None:
    with _without_reader():
        print(line, file=stream, flush=True)


def _without_reader() -> contextlib.suppress:
    """Goes on where nobody reads any more: a closed pipe, a lost terminal.

    A study is worth more than the lines about it, and everything that they say is in its folder.
    """
    return contextlib.suppress(OSError)
