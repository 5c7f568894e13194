"""manifest.json: every cell of a study, written before any of them runs.

Several runners may start one study at once, each with other cells: they take turns under an flock on manifest.lock, and
the manifest is the union of what they bring.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench.store import atomic, places
from bench.store.cell_folder import CellFolder
from bench.store.damaged import DamagedFile, read_json
from bench.store.turn import alone

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
        _check_shape(manifest)
    except TypeError as error:
        raise DamagedFile(path, f"it is not a manifest ({error})") from error
    return manifest


_CELL: dict[str, type] = {
    **dict.fromkeys(("cell", "task", "task_label", "method", "variant", "impl", "precision", "preset"), str),
    **dict.fromkeys(("task_version", "seed", "threads"), int),
    **dict.fromkeys(("task_settings", "method_settings", "backbone", "train", "trainer"), dict),
    "plugins": list,
}
"""What every cell of a manifest has, for whoever reads studies without the code that made them."""
_PLUGIN = ("kind", "id", "path", "sha256")


def _check_shape(manifest: Manifest) -> None:
    """Raises TypeError where something in a manifest is not what its readers take it for."""
    kinds = {"study": str, "created": str, "preset": str, "cells": list, "titles": dict, "command": dict}
    for name, kind in kinds.items():
        _check(name, getattr(manifest, name), kind)
    for name in {"methods", "tasks", *manifest.titles}:
        _check(f"titles.{name}", manifest.titles.get(name), dict)
        for key, card in manifest.titles[name].items():
            _check(f"titles.{name}.{key}", card, dict)
    for number, cell in enumerate(manifest.cells):
        _check_cell(f"cells[{number}]", cell)


def _check_cell(where: str, cell: Any) -> None:
    _check(where, cell, dict)
    for name, kind in _CELL.items():
        _check(f"{where}.{name}", cell.get(name), kind)
    data = cell.get("task_data", {})
    _check(f"{where}.task_data", data, dict)
    for key, sha256 in data.items():
        _check(f"{where}.task_data.{key}", sha256, str)
        _check(f"{where}.task_settings.{key}", cell["task_settings"].get(key), str)
    for plugin in cell["plugins"]:
        _check(f"{where}.plugins", plugin, dict)
        for name in _PLUGIN:
            _check(f"{where}.plugins.{name}", plugin.get(name), str)


def _check(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise TypeError(f"{name} is {'missing' if value is None else repr(value)[:40]}; it should be {kind.__name__}")


def recover(study_dir: Path) -> tuple[Manifest, list[DamagedFile]]:
    """What the cells' own spec.json say about a study whose manifest cannot be read; and those that say nothing.

    A study that is run again writes them anew.
    """
    manifest, damaged = Manifest(study_name(study_dir), _now()), []
    for path in sorted(Path(study_dir).glob("cells/*/spec.json")):
        try:
            cell = read_json(path) | {"cell": path.parent.name}
            _check_cell("spec", cell)
        except DamagedFile as error:
            damaged.append(error)
        except TypeError as error:
            damaged.append(DamagedFile(path, f"it is not a spec ({error})"))
        else:
            manifest.cells.append(cell)
    return manifest, damaged


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
    with alone(study_dir / "manifest.lock"):
        atomic.remove_unfinished(study_dir)
        try:
            manifest = read(study_dir)
        except FileNotFoundError:
            manifest, _ = recover(study_dir)
        except DamagedFile as error:
            damage = error
            number = 1 + len(list(study_dir.glob("manifest.damaged-*.json")))
            os.replace(manifest_path(study_dir), study_dir / f"manifest.damaged-{number}.json")
            manifest, _ = recover(study_dir)
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
