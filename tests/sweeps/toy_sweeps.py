"""Starts sweeps of toy trials as processes of their own, and looks at what they leave."""

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
from pathlib import Path
from typing import Any

import optuna

from bench.store import manifest
from bench.store.result import Result
from sweeps import standing, storage

CHECKOUT = Path(__file__).parents[2]


class ToySweep:
    """A sweep of toy trials in `path`; `order` is what toy_sweep.py takes."""

    def __init__(self, path: Path, order: dict[str, Any]) -> None:
        self.path, self.order = path, order
        # Every process that a worker starts, and those that they start, inherit it.
        self._mark = f"TOY_SWEEP={secrets.token_hex(8)}"

    def start(self, **order: Any) -> subprocess.Popen[str]:
        """A worker."""
        variables = {**os.environ, "PYTHONPATH": str(CHECKOUT), **dict([self._mark.split("=")])}
        script = str(Path(__file__).with_name("toy_sweep.py"))
        return subprocess.Popen(
            [sys.executable, script, str(self.path), json.dumps({**self.order, **order})],
            env=variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, **order: Any) -> dict[str, Any]:
        """Runs a worker to its end, and returns the JSON on its last line."""
        return self.finish(self.start(**order))

    def finish(self, worker: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        """What a worker says that ends by itself."""
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == code, out + err
        found = json.loads(out.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    def study(self) -> optuna.Study:
        """What the storage has."""
        return storage.look(self.path, None)

    def lines(self) -> list[standing.Line]:
        """The trials, in order."""
        return standing.lines(self.path, self.study())

    def result(self, number: int) -> Result:
        """The result of a trial's cell."""
        found = manifest.cell_folder(self.path, self.lines()[number].cell).result()
        assert found is not None
        return found

    def starts(self) -> list[dict[str, Any]]:
        """What cells said when they started: cell, pid, from, optuna."""
        path = self.path / "cells" / "processes.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def starts_per_cell(self) -> Counter[str]:
        """How often each cell was started."""
        return Counter(start["cell"] for start in self.starts())

    def kill_all(self) -> None:
        """Ends every process of the sweep."""
        while processes := list(self._processes()):
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)

    def _processes(self) -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)
            except OSError:
                continue


@contextmanager
def toy_sweep(path: Path, **order: Any) -> Iterator[ToySweep]:
    """A sweep whose processes are all ended when the test is."""
    sweep = ToySweep(path, order)
    try:
        yield sweep
    finally:
        sweep.kill_all()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
