"""The presets that ship with the project, one YAML file each: their names and what each is for.

Reads no YAML, so that listing them stays quick; `bench.presets.preset` reads a whole file.
"""

from __future__ import annotations

from pathlib import Path

from models.errors import SettingsError
from models.nearest import nearest

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The presets' names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    """The file of a preset. Raises SettingsError, with the nearest known name, where there is none."""
    if name not in names():
        raise SettingsError("--preset", f"there is no preset {name!r}", nearest(name, names()))
    return FOLDER / f"{name}.yaml"


def about(name: str) -> str:
    """What a preset is for: the first line of its file, which is always ``about: ...``."""
    with path(name).open(encoding="utf-8") as lines:
        return lines.readline().strip().removeprefix("about:").strip()
