"""metrics.jsonl: what was measured while a cell trained, one JSON object per line, only ever appended to.

A line is written with one system call. A process that is killed in the middle of it leaves a last line without its
newline: readers ignore that line, and it is cut off when the cell goes on. Any other line that does not parse means
that the file was damaged from outside, and then nothing in it is believed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.store import atomic
from bench.store.damaged import DamagedFile

_NUMBER = (int, float)
_KEYS: dict[str, type | tuple[type, ...]] = {
    "step": int,
    "metric": str,
    "value": _NUMBER,
    "split": str,
    "seconds": _NUMBER,
}


def encode(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The lines for `records`.

    Raises ValueError where a record lacks a key, has one of another type, or holds a number that is not finite.
    """
    lines = []
    for record in records:
        problem = _problem(record)
        if problem:
            raise ValueError(f"a record of metrics.jsonl {problem}: {dict(record)}")
        lines.append(json.dumps(dict(record), allow_nan=False, ensure_ascii=False) + "\n")
    return "".join(lines).encode("utf-8")


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Adds records to the file, all or none. Raises ValueError (see `encode`), or OSError where the disk is full."""
    content = encode(records)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        written = os.write(descriptor, content)
        if written != len(content):
            os.ftruncate(descriptor, size)
            raise OSError(f"{path.name}: {written} of {len(content)} bytes could be written; is the disk full?")
    finally:
        os.close(descriptor)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole records; none where there is no file. Raises DamagedFile."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DamagedFile(path, f"line {number} is not JSON") from error
        problem = _problem(record)
        if problem:
            raise DamagedFile(path, f"line {number} {problem}")
        records.append(record)
    return records


def cut_half_line(path: Path) -> None:
    """Cuts off a last line without newline. The caller must be the file's only writer."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def truncate_after(path: Path, step: int, kept_in: Path) -> int:
    """Takes out the records of later steps, which the cell is about to repeat, and returns how many there were.

    They were measured, so they are first appended to `kept_in`.
    """
    records = read(path)
    later = [record for record in records if record["step"] > step]
    if later:
        atomic.make_folder(kept_in.parent)
        cut_half_line(kept_in)
        append(kept_in, later)
        sync(kept_in)
        atomic.write_bytes(path, encode(record for record in records if record["step"] <= step))
    return len(later)


def sync(path: Path) -> None:
    """Makes what was appended outlive a power cut; nothing to do where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    atomic.sync_folder(path.parent)


def _problem(record: Any) -> str | None:
    """What is wrong with one record, or None."""
    if not isinstance(record, Mapping):
        return "is not an object"
    for key, kind in _KEYS.items():
        if key not in record:
            return f"lacks {key!r}"
        value = record[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"has {key!r} of another type"
        if isinstance(value, float) and not math.isfinite(value):
            return f"has {key!r} that is not finite"
    return None
