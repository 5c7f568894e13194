"""Reading JSON that may have been damaged: the file is named, and never taken for something it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class DamagedFile(Exception):
    """A file of the store that does not hold what was written to it.

    Args:
        path: the file.
        why: what is wrong with it, in one line.
    """

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = Path(path), why
        super().__init__(f"{self.name} is damaged: {why}")

    def __reduce__(self) -> tuple[type[DamagedFile], tuple[Path, str]]:
        return DamagedFile, (self.path, self.why)

    @property
    def name(self) -> str:
        """The file with its folder, ``<cell>/result.json``: enough to find it, without the machine's paths."""
        return f"{self.path.parent.name}/{self.path.name}"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises FileNotFoundError where there is no file, DamagedFile where it holds anything but one JSON object.
    """
    return parse_json(path, path.read_bytes())


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """The object in `content`, which was read from `path`. Raises DamagedFile."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DamagedFile(path, "it is empty" if not content.strip() else f"it is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise DamagedFile(path, "it does not hold a JSON object")
    return data
