"""One cell's folder: where everything lies, and the only code that writes there.

All writing but `create` needs the cell's claim (`claim.py`): one process at a time. Each operation may be killed at any
line; what it leaves is either the state before, the state after, or one that `finish_archive` completes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.store import atomic, metrics, places
from bench.store.damaged import DamagedFile, parse_json, read_json
from bench.store.result import Result

_STAYS = frozenset({"spec.json", "lock", "heartbeat.json", "attempts"})
"""What is never moved into an attempt: the cell itself, and who holds it."""


class CellFolder:
    """The folder ``runs/<study>/cells/<cell>``.

    Args:
        path: the folder; its name is the cell's id. It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.cell = self.path.name
        self.spec_path = self.path / "spec.json"
        self.attempt_path = self.path / "attempt.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.result_path = self.path / "result.json"
        self.log_path = self.path / "log.txt"
        self.lock_path = self.path / "lock"
        self.heartbeat_path = self.path / "heartbeat.json"
        self.checkpoints = self.path / "checkpoints"
        self.attempts = self.path / "attempts"
        self._moving_path = self.attempts / "moving.json"

    @property
    def study(self) -> Path:
        """The folder of the study that the cell belongs to."""
        return self.path.parent.parent

    def create(self, spec: Mapping[str, Any]) -> None:
        """Makes the folder and writes spec.json, unless it says the same already: without the machine's paths."""
        atomic.make_folder(self.path)
        content = atomic.encode_json(places.portable(spec))
        if not self.spec_path.is_file() or self.spec_path.read_bytes() != content:
            atomic.write_bytes(self.spec_path, content)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records ``{"step", "metric", "value", "split", "seconds"}`` to metrics.jsonl, all or none.

        Raises ValueError for a record with another shape or a number that is not finite.
        """
        metrics.append(self.metrics_path, records)

    def records(self) -> list[dict[str, Any]]:
        """All whole records of metrics.jsonl. Raises DamagedFile."""
        return metrics.read(self.metrics_path)

    def truncate_after(self, step: int) -> int:
        """Takes out the records of steps after a checkpoint's, for they will come again; returns how many.

        They are kept in attempts/repeated.jsonl.
        """
        return metrics.truncate_after(self.metrics_path, step, self.attempts / "repeated.jsonl")

    def sync(self) -> None:
        """Makes metrics.jsonl outlive a power cut. Call it before a checkpoint is saved that continues from there."""
        metrics.sync(self.metrics_path)

    def result(self) -> Result | None:
        """The result; None where there is none yet. Raises DamagedFile."""
        content = self._result_bytes()
        if content is None:
            return None
        result = Result.from_json(parse_json(self.result_path, content), self.result_path)
        if result.cell != self.cell:
            raise DamagedFile(self.result_path, f"it is the result of {result.cell}")
        return result

    def result_digest(self) -> str | None:
        """A hash of result.json as it lies there, readable or not: tells one result from the next."""
        content = self._result_bytes()
        return None if content is None else hashlib.sha256(content).hexdigest()

    def _result_bytes(self) -> bytes | None:
        # While a result is being moved away it no longer counts, wherever the mover was killed.
        if self._moving_path.exists():
            return None
        try:
            return self.result_path.read_bytes()
        except FileNotFoundError:
            return None

    def write_result(self, result: Result) -> None:
        """Writes result.json, durably, after the metrics it rests on. Raises ValueError for another cell's result."""
        if result.cell != self.cell:
            raise ValueError(f"the result of {result.cell} does not belong in {self.cell}")
        self.sync()
        atomic.write_json(self.result_path, result.to_json())

    def started(self) -> bool:
        """Whether a process has begun this attempt."""
        return self.attempt_path.exists() or self.metrics_path.exists()

    def attempt(self) -> int:
        """The number of the present attempt: 1 for the first."""
        return 1 + max((int(path.name) for path in self.attempts.glob("*") if path.name.isdigit()), default=0)

    def archive_attempt(self, keep_checkpoints: bool) -> Path:
        """Moves what the present attempt left into attempts/<n>/ and returns that folder.

        Args:
            keep_checkpoints: whether the next attempt goes on where this one stopped: then only its result moves, and
                checkpoints, metrics and log stay to be continued.
        """
        self.finish_archive()
        number = self.attempt()
        atomic.make_folder(self.attempts)
        names = [self.result_path.name] if keep_checkpoints else self._movable()
        atomic.write_json(self._moving_path, {"attempt": number, "names": names})
        self.finish_archive()
        return self.attempts / str(number)

    def _movable(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir() if path.name not in _STAYS and path.name[0] != ".")

    def finish_archive(self) -> None:
        """Completes a move that was killed; nothing to do where there is none."""
        atomic.remove_unfinished(self.attempts)
        try:
            moving = read_json(self._moving_path)
            target, names = self.attempts / str(int(moving["attempt"])), [str(name) for name in moving["names"]]
        except FileNotFoundError:
            return
        except (DamagedFile, KeyError, TypeError, ValueError):
            # What was to move is not known any more; moving all of it loses nothing, and the cell starts afresh.
            target, names = self.attempts / str(self.attempt()), self._movable()
        atomic.make_folder(target)
        for name in names:
            if (self.path / name).exists():
                atomic.move(self.path / name, target / name)
        self._moving_path.unlink()
        atomic.sync_folder(self.attempts)
