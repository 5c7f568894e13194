"""manifest.json: every cell of a study, written before any of them runs.

Several runners may start one study at once, each with other cells: they take turns under an flock on manifest.lock, and
the manifest is the union of what they bring.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench.store import atomic, places
from bench.store.cell_folder import CellFolder
from bench.store.damaged import DamagedFile, read_json

VERSION = 1


class Spec(Protocol):
    """What the store asks of a cell's spec (`bench.spec.CellSpec`)."""

    @property
    def id(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass
class Manifest:
    """What a study consists of."""

    study: str
    created: str
    """ISO 8601 in UTC."""
    preset: str = ""
    cells: list[dict[str, Any]] = field(default_factory=list)
    """Each cell's spec as JSON data, with its id under ``cell``; in the order in which they came."""
    titles: dict[str, dict[str, Any]] = field(default_factory=lambda: {"methods": {}, "tasks": {}})
    """The cards of methods and tasks by id, so that a report needs neither."""
    command: dict[str, Any] = field(default_factory=dict)
    """The last command's settings: no paths, no host."""

    def metric(self, task: str) -> str | None:
        """The metric by which a task is judged; None where its card is not in the manifest."""
        metric = self.titles.get("tasks", {}).get(task, {}).get("metric")
        return None if metric is None else str(metric)


def study_name(study_dir: Path) -> str:
    """A study is called what its folder is called."""
    return os.path.basename(os.path.abspath(study_dir))


def manifest_path(study_dir: Path) -> Path:
    """Where a study's manifest lies."""
    return Path(study_dir) / "manifest.json"


def cell_folder(study_dir: Path, cell: str) -> CellFolder:
    """The folder of one cell of a study."""
    return CellFolder(Path(study_dir) / "cells" / cell)


def read(study_dir: Path) -> Manifest:
    """The manifest of a study. Raises FileNotFoundError where there is none, DamagedFile where it cannot be read."""
    path = manifest_path(study_dir)
    data = read_json(path)
    version = data.pop("version", None)
    if version != VERSION:
        raise DamagedFile(path, f"its version is {version}; this code reads version {VERSION}")
    try:
        manifest = Manifest(**data)
        cells = {cell["cell"]: cell for cell in manifest.cells}
        if not isinstance(manifest.titles, dict) or not all(isinstance(name, str) for name in cells):
            raise TypeError("a cell's id or the titles are of another type")
    except (TypeError, KeyError) as error:
        raise DamagedFile(path, f"it is not a manifest ({error})") from error
    return manifest


def recover(study_dir: Path) -> Manifest:
    """What the cells' own spec.json say about a study whose manifest cannot be read."""
    manifest = Manifest(study_name(study_dir), _now())
    for path in sorted(Path(study_dir).glob("cells/*/spec.json")):
        try:
            manifest.cells.append(read_json(path) | {"cell": path.parent.name})
        except DamagedFile:
            # The study is run again with its specs, which writes this one anew.
            continue
    return manifest


def merge(
    study_dir: Path,
    specs: Iterable[Spec],
    *,
    preset: str = "",
    titles: Mapping[str, Mapping[str, Any]] | None = None,
    command: Mapping[str, Any] | None = None,
) -> tuple[Manifest, DamagedFile | None]:
    """Adds cells to a study, and makes the study and the cells' folders where they are new.

    A manifest that cannot be read is set aside under another name, and made again from what the cells' folders say.
    Where the cells' files lie on this machine goes to local.json (`places.py`), and nowhere else.

    Args:
        study_dir: ``runs/<study>``.
        specs: the cells. Those that are there keep their place, with the new ``threads``, ``time_limit_s``, ``preset``.
        preset: the preset's name; empty if none.
        titles: ``{"methods": {id: card}, "tasks": {id: card}}``.
        command: the command's settings.

    Returns:
        the manifest as it now stands, and what was wrong with the old one, if anything.
    """
    study_dir = Path(study_dir)
    specs = list(specs)
    atomic.make_folder(study_dir)
    damage = None
    with _alone(study_dir):
        atomic.remove_unfinished(study_dir)
        try:
            manifest = read(study_dir)
        except FileNotFoundError:
            manifest = recover(study_dir)
        except DamagedFile as error:
            damage = error
            number = 1 + len(list(study_dir.glob("manifest.damaged-*.json")))
            os.replace(manifest_path(study_dir), study_dir / f"manifest.damaged-{number}.json")
            manifest = recover(study_dir)
        cells = {cell["cell"]: cell for cell in manifest.cells}
        cells |= {spec.id: places.portable(spec.to_json()) | {"cell": spec.id} for spec in specs}
        manifest.cells = list(cells.values())
        manifest.preset = preset or manifest.preset
        manifest.command = dict(command) if command is not None else manifest.command
        for kind, cards in (titles or {}).items():
            manifest.titles[kind] = {**manifest.titles.get(kind, {}), **cards}
        content = atomic.encode_json({"version": VERSION, **asdict(manifest)})
        path = manifest_path(study_dir)
        if not path.is_file() or path.read_bytes() != content:
            atomic.write_bytes(path, content)
        places.note(study_dir, (spec.to_json() for spec in specs))
        for spec in specs:
            cell_folder(study_dir, spec.id).create(spec.to_json())
    return manifest, damage


@contextmanager
def _alone(study_dir: Path) -> Iterator[None]:
    """Waits for its turn with a study's manifest."""
    descriptor = os.open(study_dir / "manifest.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
