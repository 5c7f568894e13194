"""Starts runners of toy studies as processes of their own, signals them, and looks at what they leave."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.store import manifest
from bench.store.cell_folder import CellFolder
from models.registry import load_file

CHECKOUT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("toy_runner.py")
spec = load_file(Path(__file__).with_name("toy_cells.py")).spec
Cells = list[tuple[str, dict[str, Any]]]


@dataclass
class Done:
    """What a runner that has ended left."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON on the last line."""
        data = json.loads(self.out.splitlines()[-1])
        assert isinstance(data, dict)
        return data


class ToyStudy:
    """A study of toy cells in `path`, each a name and what it does; and the processes that its runners start."""

    def __init__(self, path: Path, cells: Cells) -> None:
        self.path, self.cells = path, cells
        # Every process that a runner starts, and those that they start, inherit it.
        self._mark = f"TOY_STUDY={secrets.token_hex(8)}"

    def folder(self, name: str) -> CellFolder:
        train = dict(self.cells)[name]
        return manifest.cell_folder(self.path, spec(name, **train).id)

    def start(self, *, environment: dict[str, str] | None = None, **order: Any) -> subprocess.Popen[str]:
        """A runner, in a process group of its own like one that is started in a terminal."""
        variables = {**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})}
        variables |= dict([self._mark.split("=")])
        command = [sys.executable, str(RUNNER), str(self.path), json.dumps({"cells": self.cells, **order})]
        return subprocess.Popen(
            command,
            env=variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *, environment: dict[str, str] | None = None, **order: Any) -> Done:
        """Runs the study to its end."""
        return finish(self.start(environment=environment, **order))

    def statuses(self) -> dict[str, str]:
        """The status in each cell's result; cells without one are left out."""
        results = {name: self.folder(name).result() for name, _ in self.cells}
        return {name: result.status.value for name, result in results.items() if result is not None}

    def steps(self, name: str) -> list[int]:
        """The steps in a cell's metrics."""
        return [record["step"] for record in self.folder(name).records()]

    def starts(self) -> Counter[str]:
        """How often each cell's function was called."""
        path = self.path / "cells" / "processes.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter(json.loads(line)["cell"].split("--")[0] for line in lines)

    def processes(self) -> dict[int, str]:
        """The processes that this study's runners have started, and themselves: id to command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def cell_processes(self) -> list[int]:
        """The processes that call cells' functions now, as far as they have said so."""
        path = self.path / "cells" / "processes.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [pid for line in lines if (pid := json.loads(line)["pid"]) in self.processes()]

    def kill_all(self) -> None:
        """Ends every process of the study."""
        while processes := self.processes():
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)


@contextmanager
def toy_study(path: Path, cells: Cells) -> Iterator[ToyStudy]:
    """A study whose processes are all ended when the test is."""
    study = ToyStudy(path, cells)
    try:
        yield study
    finally:
        study.kill_all()


def finish(process: subprocess.Popen[str], timeout: float = 60) -> Done:
    """What a runner leaves when it has ended by itself."""
    out, err = process.communicate(timeout=timeout)
    return Done(process.returncode, out, err)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
