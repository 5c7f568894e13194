"""local.json: where the files of the user's that a study's cells need lie on this machine: plugins, and texts.

Whatever is shared of a study names such a file by its content, and by its path only where that lies in the checkout;
of any other file it knows the name alone, for folders give away who works on what. Where the file really lies stands in
local.json, which no commit takes in: a sha256, and the paths of files that had this content, the latest first. (More
than one, as several machines may share a study's folder.)

A spec is *located* while it is in memory, its paths absolute, and *portable* on disk. Both are JSON data here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from bench.store import atomic
from bench.store.damaged import DamagedFile, read_json
from models.checkout import CHECKOUT


def places_path(study_dir: Path) -> Path:
    """Where a study's local.json lies."""
    return Path(study_dir) / "local.json"


def portable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec as it may be shared: paths in the checkout relative to it, of other files the name alone."""

    def shared(path: str, _: str) -> str:
        # Not resolved: a link in the checkout belongs to it, wherever it points.
        whole = Path(os.path.normpath(CHECKOUT / path))
        return whole.relative_to(CHECKOUT).as_posix() if whole.is_relative_to(CHECKOUT) else whole.name

    return _with_paths(spec, shared)


def located(spec: Mapping[str, Any], study_dir: Path) -> dict[str, Any]:
    """A spec whose files are named by where they lie on this machine; one that is not found keeps its name.

    Only places are looked up: whether a file still has the content that the spec names is for its reader to check.
    """
    known = read(study_dir)

    def here(path: str, sha256: str) -> str:
        if os.path.isabs(path):
            return path
        places = [*known.get(sha256, []), str(CHECKOUT / path)]
        return next((place for place in places if os.path.isfile(place)), path)

    return _with_paths(spec, here)


def read(study_dir: Path) -> dict[str, list[str]]:
    """sha256 -> paths. Empty where there is no local.json, or a damaged one, which the study's next run writes anew."""
    try:
        files = read_json(places_path(study_dir))["files"]
        return {str(sha256): [str(path) for path in paths] for sha256, paths in files.items()}
    except (FileNotFoundError, NotADirectoryError, DamagedFile, KeyError, AttributeError, TypeError):
        return {}


def note(study_dir: Path, specs: Iterable[Mapping[str, Any]]) -> None:
    """Adds to local.json where the files of located specs lie. The caller must be its only writer."""
    known = read(study_dir)
    files = {sha256: list(paths) for sha256, paths in known.items()}

    def remember(path: str, sha256: str) -> str:
        if os.path.isabs(path):
            files[sha256] = [path, *(other for other in files.get(sha256, []) if other != path)]
        return path

    for spec in specs:
        _with_paths(spec, remember)
    if files != known:
        atomic.write_json(places_path(study_dir), {"files": files})


def _with_paths(spec: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """A copy of a spec with every path of a file of the user's replaced by ``change(path, sha256)``."""
    copy = cast(dict[str, Any], json.loads(json.dumps(dict(spec))))
    for plugin in copy.get("plugins", []):
        plugin["path"] = change(plugin["path"], plugin["sha256"])
    for key, sha256 in copy.get("task_data", {}).items():
        copy["task_settings"][key] = change(copy["task_settings"][key], sha256)
    return copy
