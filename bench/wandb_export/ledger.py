"""``wandb/exported.json`` in a study's folder: which cell became which run, and the digest of what it was made from."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.store import atomic
from bench.store.damaged import DamagedFile, read_json

VERSION = 1
_LOOK_S = 0.2


@dataclass(frozen=True)
class Written:
    """One run.

    Args:
        digest: of what it was made from, `RunContent.digest`.
        folder: its folder's name; None where it was sent to a server instead.
    """

    digest: str
    folder: str | None


@dataclass
class Ledger:
    """What has been written of a study.

    Args:
        project: the W&B project of the runs; empty before the first.
        entity: their user or team.
        runs: by cell.
    """

    project: str = ""
    entity: str | None = None
    runs: dict[str, Written] = field(default_factory=dict)


def folder_of(study_dir: Path) -> Path:
    """Where a study's runs lie."""
    return Path(study_dir) / "wandb"


def path_of(study_dir: Path) -> Path:
    """Where a study's ledger lies."""
    return folder_of(study_dir) / "exported.json"


def read(study_dir: Path) -> Ledger:
    """A study's ledger; an empty one where there is none. Raises DamagedFile."""
    path = path_of(study_dir)
    try:
        data = read_json(path)
    except FileNotFoundError:
        return Ledger()
    if data.pop("version", None) != VERSION:
        raise DamagedFile(path, f"its version is not {VERSION}")
    try:
        return Ledger(runs={cell: Written(**run) for cell, run in data.pop("runs").items()}, **data)
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedFile(path, f"it lacks or has something else: {error}") from error


def write(study_dir: Path, ledger: Ledger) -> None:
    """Replaces a study's ledger."""
    atomic.make_folder(folder_of(study_dir))
    atomic.write_json(path_of(study_dir), {"version": VERSION, **asdict(ledger)}, durable=False)


@contextmanager
def alone(study_dir: Path, name: str, wait_s: float) -> Iterator[bool]:
    """Within it, this process is the only one with a lock of that name on a study's runs.

    Args:
        study_dir: ``runs/<study>``.
        name: the lock.
        wait_s: seconds to wait for one's turn.

    Yields:
        whether the turn came in time.
    """
    atomic.make_folder(folder_of(study_dir))
    descriptor = os.open(folder_of(study_dir) / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    end = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(_LOOK_S)
                    continue
                yield False
            else:
                yield True
            return
    finally:
        os.close(descriptor)
