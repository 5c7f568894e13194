"""Where a sweep's trials are kept: a journal in its folder, or a database that Optuna knows by its URL.

The folder and the storage belong together: claims, cells and results are in the folder, trials in the storage. Several
workers share both.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from bench.store import atomic, metrics
from bench.store.damaged import DamagedFile, read_json
from bench.store.turn import alone
from models.errors import SettingsError

JOURNAL = "optuna.jsonl"
_FOLDER, _DEFINITION = "spanbench_folder", "spanbench_definition"
"""User attributes of the Optuna study: the mark in the folder's sweep.json, and what all trials have in common."""


class JournalLock(JournalFileOpenLock):
    """The journal's lock as an flock: the kernel lets go of it with the process.

    (Optuna's own locks stay after a SIGKILL, and everybody waits for 30 seconds.) Who gets it cuts off a line that a
    killed or powerless writer left half-written, which would spoil the next one.

    Args:
        path: the journal.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=None)
        self._journal = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Waits for the lock."""
        descriptor = os.open(self._journal.with_name(f"{self._journal.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        metrics.cut_half_line(self._journal)
        return True

    def release(self) -> None:
        """Lets go of it."""
        os.close(self._descriptor)


def lock_path(folder: Path) -> Path:
    """What `bench.store.turn.alone` locks for all workers of a sweep: to count its trials and begin one is one step."""
    return folder / "sweep.lock"


def check_folder(folder: Path) -> None:
    """Raises SettingsError where a sweep would be written over, or among, something else."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError("--out", f"{folder} is not a folder", "Give the sweep another name.")
    names = {path.name for path in folder.iterdir()} - {"sweep.lock"} if folder.exists() else set()
    if names and "sweep.json" not in names:
        raise SettingsError("--out", f"{folder} holds other files, and no sweep", "Give the sweep another name.")


def begin(
    folder: Path,
    url: str | None,
    definition: Mapping[str, Any],
    *,
    maximise: bool,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    """The Optuna study of a sweep, made if it is new. It is called as the folder is.

    Args:
        folder: ``runs/<sweep>``; made if it is new.
        url: the storage's; None for the journal in the folder.
        definition: what all trials have in common, see `TrialCells.definition`.
        maximise: whether higher values are better.
        pruner: what ends trials.

    Raises:
        SettingsError: the storage cannot be reached, is another sweep's, or the sweep began with other settings.
    """
    atomic.make_folder(folder)
    with alone(lock_path(folder)):
        try:
            mark, external = _mark(folder)
        except FileNotFoundError:
            mark, external = secrets.token_hex(8), url is not None
            atomic.write_json(folder / "sweep.json", {"id": mark, "external_storage": external})
        _check_place(folder, url, external)
        with problems():
            study = optuna.create_study(
                storage=_storage(folder, url),
                study_name=_name(folder),
                direction="maximize" if maximise else "minimize",
                pruner=pruner,
                load_if_exists=True,
            )
            attributes = study.user_attrs
            if _FOLDER not in attributes:
                study.set_user_attr(_DEFINITION, dict(definition))
                study.set_user_attr(_FOLDER, mark)
                return study
        _check_folder(folder, attributes, mark)
        _check_definition(attributes[_DEFINITION], definition)
    return study


def look(folder: Path, url: str | None) -> optuna.Study:
    """The Optuna study of a sweep, to read.

    Raises:
        SettingsError: there is none, or its storage cannot be reached.
    """
    try:
        mark, external = _mark(folder)
    except FileNotFoundError:
        raise SettingsError(str(folder), "there is no sweep", "`python -m sweeps run SPACE.yaml` makes one.") from None
    _check_place(folder, url, external)
    try:
        with problems():
            study = optuna.load_study(study_name=_name(folder), storage=_storage(folder, url))
    except KeyError:
        raise SettingsError(str(folder), "its storage has no such sweep", "Run it, or name its --storage.") from None
    _check_folder(folder, study.user_attrs, mark)
    return study


def definition(study: optuna.Study) -> dict[str, Any]:
    """What all trials of a sweep have in common, as it was when it began."""
    found: dict[str, Any] = study.user_attrs[_DEFINITION]
    return found


def _name(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder))


def _mark(folder: Path) -> tuple[str, bool]:
    """What sweep.json says: the folder's mark, and whether its trials are in a storage elsewhere."""
    try:
        content = read_json(folder / "sweep.json")
        return str(content["id"]), bool(content["external_storage"])
    except (DamagedFile, KeyError, TypeError) as error:
        raise SettingsError(f"{folder / 'sweep.json'}", f"cannot be read: {error}", "Give another --out.") from error


def _check_place(folder: Path, url: str | None, external: bool) -> None:
    if external and url is None:
        raise SettingsError("--storage", f"{folder} began with a storage elsewhere", "Name it again.")
    if not external and url is not None:
        raise SettingsError(
            "--storage", f"{folder} began with the journal in it", "Leave it out, or give another --out."
        )


def _check_folder(folder: Path, attributes: Mapping[str, Any], mark: str) -> None:
    if attributes.get(_FOLDER) != mark:
        raise SettingsError(
            "--storage",
            f"holds a sweep {_name(folder)} of another folder",
            "All workers of a sweep share its folder; for a new sweep give another --out.",
        )


def _check_definition(began: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Values of trials with different settings cannot be compared, so a sweep goes on as it began."""
    before, after = _flat(began), _flat(now)
    for key in [*after, *before]:
        if before.get(key) != after.get(key):
            problem = f"was {before.get(key)} when the sweep began, and is {after.get(key)} now"
            raise SettingsError(
                key.removeprefix("cell."), problem, "Put it back, or begin a new sweep with another --out."
            )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _storage(folder: Path, url: str | None) -> BaseStorage:
    """Optuna's storage. It is told to keep quiet about what it does all the time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        journal = folder / JOURNAL
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalLock(journal)))
    if url.startswith("sqlite"):
        raise SettingsError(
            "--storage",
            "is SQLite, which is not safe for parallel trials",
            "Leave it out, or name a PostgreSQL server.",
        )
    try:
        return RDBStorage(url)
    except ImportError as error:
        remedy = "Install the extra `cluster`, and begin the URL with postgresql+psycopg://"
        raise SettingsError("--storage", f"its client is not installed ({error.__cause__ or error})", remedy) from error
    except ValueError as error:
        remedy = "Write postgresql+psycopg://user:password@host/database."
        raise SettingsError("--storage", "is not the URL of a database", remedy) from error


@contextmanager
def problems() -> Iterator[None]:
    """Turns what a database's client raises into one message, without the URL: it may hold a password."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error if isinstance(error, StorageInternalError) else error
        if not type(cause).__module__.startswith(("sqlalchemy", "psycopg")):
            raise
        problem = f"cannot be used: {type(cause).__name__}: {str(cause).splitlines()[0]}"
        raise SettingsError("--storage", problem, "Check that the server runs and that the URL is right.") from error
