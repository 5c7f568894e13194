"""Which cells of a study a run has to run: what is missing, interrupted or damaged, and what `--retry` asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.store.cell_folder import CellFolder
from bench.store.damaged import DamagedFile
from bench.store.fingerprint import Today
from bench.store.result import Result
from bench.store.statuses import RETRIED
from models.errors import SettingsError


@dataclass(frozen=True)
class Decision:
    """What to do about one cell."""

    run: bool
    replaces: str | None = None
    """The digest of the result that is replaced by running it; None where there is none."""
    afresh: bool = False
    """Whether nothing of the result's attempt may be gone on from: it is of other code."""


def check_retry(retry: str | None) -> None:
    """Raises SettingsError where `retry` is not a word of ``--retry``."""
    if retry is not None and retry not in RETRIED:
        raise SettingsError("--retry", f"{retry!r} is not known", f"Give one of {', '.join(RETRIED)}.")


def decide(folder: CellFolder, spec: Mapping[str, Any], retry: str | None, today: Today) -> Decision:
    """Whether a cell is to be run.

    Args:
        folder: its folder.
        spec: its spec as JSON data.
        retry: oom, failed, stale, all or None.
        today: today's code.
    """
    digest = folder.result_digest()
    if digest is None:
        return Decision(run=True)
    try:
        result = folder.result()
    except DamagedFile:
        return Decision(run=True, replaces=digest)
    if result is None:
        return Decision(run=True)
    if retry is not None and result.status in RETRIED[retry]:
        return Decision(run=True, replaces=digest)
    if retry == "stale" and is_stale(result, spec, today):
        return Decision(run=True, replaces=digest, afresh=True)
    return Decision(run=False)


def is_stale(result: Result, spec: Mapping[str, Any], today: Today) -> bool | None:
    """Whether a result was made by other code than today's; None where that cannot be known.

    Args:
        result: the result, with the fingerprint of its code.
        spec: its cell's spec as JSON data.
        today: today's code.
    """
    return is_other(result.provenance.get("fingerprint"), today, spec)


def is_other(stored: str | None, today: Callable[[Mapping[str, Any]], str], spec: Mapping[str, Any]) -> bool | None:
    """Whether a stored fingerprint is another than today's of a spec; None where that cannot be known."""
    if stored is None:
        return None
    try:
        return stored != today(spec)
    except (OSError, SyntaxError, KeyError):
        return None
