"""Which preset a run is of, and which split judges it: a study has one of each, and keeps it.

Cells of two presets in one folder would pass for one comparison; so a study that is there is run with its own preset,
also where the flag was forgotten, and with no other.
"""

from __future__ import annotations

from pathlib import Path

from bench.store.study_status import read_manifest
from models.errors import SettingsError

DEFAULT = "quick"


def preset_of(out: Path, preset: str | None, config: Path | None) -> str:
    """The preset to run; empty for a file of the user's.

    Args:
        out: the study's folder, which need not exist.
        preset: ``--preset``, if given.
        config: ``--config``, if given.

    Raises:
        SettingsError: the study in `out` was made with another preset or file.
    """
    asked = preset or ("" if config else None)
    its_preset, its_file = _made_with(out)
    if its_preset is None:
        return DEFAULT if asked is None else asked
    if asked is None and its_preset:
        return its_preset
    if asked == its_preset and (config is None or its_file == config.name):
        return its_preset
    made = f"preset {its_preset}" if its_preset else f"the file {its_file}"
    own = "leave out --preset and --config" if its_preset else f"give --config {its_file} again"
    remedy = f"To go on with it, {own}; for another study, give another --out."
    flag = "--preset" if preset else "--config" if config else "--out"
    raise SettingsError(flag, f"{out} is a study of {made}", remedy)


def check_judge(out: Path, judged_by: str) -> None:
    """Raises SettingsError where a study that is judged by validation would come to show its test."""
    try:
        found, _ = read_manifest(out)
    except (FileNotFoundError, NotADirectoryError):
        return
    cards = found.titles.get("presets", {}).values()
    if judged_by != "validation" and any(card.get("judged_by") == "validation" for card in cards):
        remedy = "Add --set judged_by=validation, or give another --out."
        raise SettingsError("judged_by", f"is {judged_by}, but {out} is a study that validation judges", remedy)


def _made_with(out: Path) -> tuple[str | None, str | None]:
    """The preset of the study in a folder, or "" and its file's name; None where there is none, or none is known."""
    try:
        found, _ = read_manifest(out)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    if found.preset:
        return found.preset, None
    if found.command.get("config"):
        return "", str(found.command["config"])
    # A manifest that was lost and made again from its cells knows no more than they do.
    names = {str(cell["preset"]) for cell in found.cells if cell.get("preset")}
    return (names.pop() if len(names) == 1 else None), None
