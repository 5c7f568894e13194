"""Methods and tasks from outside the tree (``--plugin FILE``), and how a cell's process finds them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from models.checkout import CHECKOUT
from models.errors import SettingsError
from models.registry import METHODS, Registry, content_hash, read_card
from tasks.registry import TASKS

_REGISTRIES: dict[str, Registry] = {"method": METHODS, "task": TASKS}


def add_plugins(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Registers plugin files, each as a method or a task by what its CARD holds.

    Returns:
        one entry per file for `CellSpec.plugins`: kind, id, absolute path, sha256 of its bytes.

    Raises:
        SettingsError: a file is missing, has no complete CARD, or has the name of another module.
    """
    entries: list[dict[str, str]] = []
    for path in paths:
        if not path.is_file():
            raise SettingsError("--plugin", f"there is no file {path}", "Give the path of a Python file.")
        card = read_card(path)
        kind = "task" if card and "objective" in card else "method"
        name = _REGISTRIES[kind].add_plugin(path.resolve())
        if any(entry["id"] == name for entry in entries):
            raise SettingsError("--plugin", f"two files are called {path.name}", "Give one of them another name.")
        _REGISTRIES[kind].card(name)
        entries.append({"kind": kind, "id": name, "path": str(path.resolve()), "sha256": content_hash(path)})
    return entries


def plugin_path(entry: Mapping[str, str]) -> Path:
    """Where the file of an entry of `CellSpec.plugins` lies: of one that is not located, in the checkout."""
    return (CHECKOUT / entry["path"]).resolve()


def restore_plugins(entries: Iterable[Mapping[str, str]], source: str | None = None) -> None:
    """Registers the plugins that a cell's spec names, in the process that runs it.

    Args:
        entries: `CellSpec.plugins` of a located spec.
        source: the spec's file, for messages.

    Raises:
        SettingsError: a file is missing or is no longer the one that the spec was made with.
    """
    for entry in entries:
        path = plugin_path(entry)
        key = f"plugins.{entry['id']}"
        if not path.is_file():
            remedy = "Run the study again with --plugin FILE, which notes where it lies."
            raise SettingsError(key, f"there is no file {entry['path']}", remedy, source)
        if content_hash(path) != entry["sha256"]:
            problem = f"{entry['path']} is not the file that the spec was made with"
            raise SettingsError(
                key, problem, "Run the study anew with --plugin: the changed file makes new cells.", source
            )
        _REGISTRIES[entry["kind"]].add_plugin(path)
