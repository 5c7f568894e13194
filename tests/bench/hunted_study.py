"""A study of watched cells, with a runner that can be started, killed, and started again; what a kill hit, and left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.registry import load_file

RUNNER = Path(__file__).with_name("watched_runner.py")
moments = load_file(Path(__file__).with_name("moments.py"))

ONLY_RUNNER, ONLY_CELL, BOTH = "runner", "cell", "cell, then runner"
"""Whom a kill meets. A runner that outlives its cell judges it failed; with both dead the cell is interrupted."""

ORPHAN_S = 2.0
"""Seconds after its runner's death in which a cell must have ended, in the middle of its work as it is."""


@dataclass(frozen=True)
class Hit:
    """What one kill ended."""

    victim: str
    phases: dict[str, str]
    """The moment in which each cell died that was at work, by cell."""
    resumable: int
    """How many of them have no result, nobody who judges them failed, and a checkpoint to go on from."""
    ended_after: float
    """Seconds from the kill until all cells that it should end had ended."""

    def __str__(self) -> str:
        where = "; ".join(f"{cell.split('--')[1]}: {moment}" for cell, moment in sorted(self.phases.items()))
        return f"{self.victim:17} {self.ended_after:4.2f} s  {where}"


class HuntedStudy:
    """A study in the folder `path`, of the cells that the study in `planned` has."""

    def __init__(self, path: Path, planned: Path, checkout: Path) -> None:
        self.path, self.planned, self.checkout = path, planned, checkout
        self.told = path.parent / "moments"
        self.output = path.parent / "runner.txt"
        self.runner: subprocess.Popen[str] | None = None
        self.finished: dict[Path, bytes] = {}
        """Every result with status ok, as it was when it was first seen."""
        self.resumable = 0
        self._left_behind: list[int] = []

    def start(self) -> None:
        """Starts a runner, which also runs again what failed."""
        self.told.mkdir(exist_ok=True)
        for left in self.told.iterdir():
            left.unlink()
        with open(self.output, "w") as output:
            self.runner = subprocess.Popen(
                [sys.executable, str(RUNNER), str(self.path), str(self.planned)],
                cwd=self.checkout,
                env={**os.environ, "PYTHONPATH": str(self.checkout)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def running(self) -> bool:
        """Whether there is a runner that has not ended."""
        return self.runner is not None and self.runner.poll() is None

    def end(self) -> None:
        """Kills the runner, if there is one."""
        if self.runner is not None:
            self.runner.kill()
            self.runner.wait()

    def at_work(self) -> dict[str, Any]:
        """The cells of the runner that train, evaluate or write now: their moments, by cell."""
        if self.runner is None or not self.running():
            return {}
        # Those of the runner only: what an earlier one left may still be dying, and its number may be another's.
        processes = {process for process in descendants(self.runner.pid) if lives(process)}
        return {
            cell: moment
            for cell, moment in moments.read(self.told).items()
            if moment.phase in moments.PHASES and moment.process in processes
        }

    def waiting(self) -> list[str]:
        """The cells that wait where they were told to stop."""
        return [cell for cell, moment in self.at_work().items() if moment.waits]

    def kill(self, victim: str, cell: str) -> Hit:
        """Kills the runner, a cell at work, or both, and waits until all that should end with them has ended."""
        assert self.runner is not None
        self.check_left_behind()
        processes = descendants(self.runner.pid)
        before = self.at_work()
        began = time.monotonic()
        if victim != ONLY_RUNNER:
            try:
                os.kill(before[cell].process, signal.SIGKILL)
            except (KeyError, ProcessLookupError):
                return Hit(victim, {}, 0, 0.0)
        if victim == ONLY_CELL:
            processes = [before[cell].process]
        else:
            self.end()
        told = moments.read(self.told)  # those too that are not at work yet
        dying = {name: moment.process for name, moment in told.items() if moment.process in processes}
        assert eventually(lambda: not any(map(lives, dying.values())), ORPHAN_S), "a cell outlives its runner"
        ended_after = time.monotonic() - began
        self._left_behind = processes
        self.check_silence()
        now = moments.read(self.told)
        phases = {
            name: now[name].name
            for name, process in dying.items()
            if now[name].process == process and now[name].phase in moments.PHASES
        }
        resumable = sum(victim != ONLY_CELL and self._can_go_on(name) for name in phases)
        return Hit(victim, phases, resumable, ended_after)

    def _can_go_on(self, cell: str) -> bool:
        folder = self.path / "cells" / cell
        return (folder / "checkpoints" / "last.ckpt").exists() and not (folder / "result.json").exists()

    def check_left_behind(self) -> None:
        """What else the last runner had started has ended too: the fork server takes its time, and writes nothing."""
        assert eventually(lambda: not any(map(lives, self._left_behind))), "a process outlives its runner"

    def check_silence(self) -> None:
        """No runner has anything to complain of, such as a damaged file: its output is empty, or its summary."""
        lines = self.output.read_text().splitlines()
        assert len(lines) <= 1, lines
        assert not lines or json.loads(lines[0])["damaged"] == []

    def check_finished(self) -> None:
        """Every result that was ok is what it was, byte for byte; new ones are noted. Nothing failed by itself."""
        for path, content in self.finished.items():
            assert path.read_bytes() == content, f"a finished result was touched: {path.parent.name}"
        for path in self.path.glob("cells/*/result.json"):
            content = path.read_bytes()
            result = json.loads(content)
            if result["status"] == "ok":
                self.finished.setdefault(path, content)
            else:
                assert result["reason"].startswith("killed by SIGKILL"), (path.parent.name, result)

    def status(self, cell: str) -> str | None:
        """The status in a cell's result; None where it has none."""
        try:
            return str(json.loads((self.path / "cells" / cell / "result.json").read_bytes())["status"])
        except FileNotFoundError:
            return None

    def log(self) -> str:
        """All that its cells' processes have said."""
        return "".join(path.read_text() for path in sorted(self.path.rglob("log.txt")))


def curves(study: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every cell's learning curve, without times."""
    return {
        path.parent.name: [
            (record["step"], record["split"], record["metric"], record["value"])
            for record in map(json.loads, path.read_text().splitlines())
        ]
        for path in sorted(study.glob("cells/*/metrics.jsonl"))
    }


def rows(study: Path) -> dict[str, list[dict[str, object]]]:
    """Every cell's rows."""
    return {
        path.parent.name: json.loads(path.read_text())["rows"] for path in sorted(study.glob("cells/*/result.json"))
    }


def descendants(process: int) -> list[int]:
    """All processes below one, itself not among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [process]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def lives(process: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Waits for a condition; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True
