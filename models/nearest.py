"""What an error about an unknown name says to do: the nearest known name, and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, complete: bool = True) -> str:
    """The remedy for an unknown name: ``Did you mean quick? Known: paper, quick, small.``

    Args:
        name: what was written.
        known: what could have been.
        complete: list all of `known`; otherwise only the nearest, or nothing where none is near.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Known: {', '.join(names) or 'none'}." if complete else hint
