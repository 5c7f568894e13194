"""Files that are either whole or not there: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

_SUFFIX = ".unfinished"


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replaces a file at once: a reader sees the old content or the new one, never a part.

    Args:
        path: the file; its folder must exist.
        content: all of the new content.
        durable: whether the content must outlive a power cut; without it only killed processes are survived.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def encode_json(data: Any) -> bytes:
    """The bytes of a JSON file. Raises ValueError for NaN and infinities, which are not JSON."""
    return (json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode("utf-8")


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """Replaces a JSON file at once. Raises ValueError for NaN and infinities, before anything is touched."""
    write_bytes(path, encode_json(data), durable=durable)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, each of them durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def move(source: Path, target: Path) -> None:
    """Renames a file or folder into an existing folder; both folders are synced."""
    os.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def remove_unfinished(folder: Path) -> None:
    """Deletes what writers that were killed left half-written. The caller must be the folder's only writer."""
    for leftover in folder.glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)
