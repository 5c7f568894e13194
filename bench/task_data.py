"""Files of the user's that a task reads, such as a corpus of their own: known by content, not by path.

A task names the settings that are such files in its card, ``"files": ["path"]``. Planning writes each file's sha256
into the cell's spec, where it decides the id in place of the path: another text makes other cells, the same text in
another folder the same ones. A cell checks the content before it reads it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.spec import CellSpec
from models.errors import SettingsError


def identify(
    section: str, card: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What stands in a spec for settings that may name files.

    Args:
        section: the settings' prefix, ``task.<id>`` or ``method.<id>``.
        card: the task's or method's CARD; its optional ``files`` lists the settings that name a file, or are None.
        settings: every field of the settings, as JSON data.

    Returns:
        the settings with files' paths absolute; and the sha256 of each file, by its setting.

    Raises:
        SettingsError: a file cannot be read, or a setting that ``files`` does not list names one by an absolute path.
    """
    listed = card.get("files", [])
    if not isinstance(listed, list | tuple) or not set(listed) <= set(settings):
        problem = f"files is {listed!r}, which is not a list of its settings"
        raise SettingsError(f"CARD of {section}", problem, f"Its settings are {', '.join(settings)}.")
    found, digests = dict(settings), {}
    for key, value in settings.items():
        if key in listed and value is not None:
            found[key] = os.path.abspath(value)
            digests[key] = _sha256(f"{section}.{key}", found[key])
        elif isinstance(value, str) and os.path.isabs(value) and os.path.exists(value):
            problem = f"names {value}, and a cell must not depend on what lies there unnoticed"
            remedy = f'The module\'s CARD must list it: "files": ["{key}"].'
            raise SettingsError(f"{section}.{key}", problem, remedy)
    return found, digests


def check_data(spec: CellSpec, source: str | None = None) -> None:
    """Checks that the files which a located spec names still have the content that it was made with.

    Args:
        spec: the spec, see `CellSpec.located`.
        source: the spec's file, for messages.

    Raises:
        SettingsError: a file is not found, or has another content.
    """
    for key, sha256 in spec.task_data.items():
        full, path = f"task.{spec.task}.{key}", Path(spec.task_settings[key])
        if not path.is_file():
            remedy = f"Run the study again with --set {full}=FILE, which notes where it lies."
            raise SettingsError(full, f"{path.name} is not found on this machine", remedy, source)
        if _sha256(full, str(path)) != sha256:
            problem = f"{path.name} is not the file that the cell was made with: its content is another"
            remedy = "Put that content back, or run the study again: another content makes other cells."
            raise SettingsError(full, problem, remedy, source)


def _sha256(key: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SettingsError(key, f"{path} cannot be read: {error.strerror}", "Give the path of a file.") from error
