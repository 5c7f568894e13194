"""Pages as HTML: one file with everything in it, that needs no network and no JavaScript (`page.html` is its template).

Whatever a study's files say is escaped. A figure stands in the page as a picture with its bytes in its address, so that
the names and styles within one picture cannot meet those of another.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.parts import Heading, Part

_FEW = 2
"""Sections that need no table of contents."""


@dataclass(frozen=True)
class Placed:
    """A part in its place on the page.

    Args:
        part: what is shown; kind: its class's name, which the template goes by.
        anchor: a heading's address in the page; empty for other parts.
        section: the heading above the part, which says what a table shows to those who cannot see where it stands.
    """

    part: Part
    kind: str
    anchor: str
    section: str


def render(parts: Sequence[Part]) -> str:
    """The page's text; reads the figures' files."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kept_together": _kept_together, "address": _address}
    placed = _place(parts)
    sections = [one for one in placed if isinstance(one.part, Heading) and one.part.level == 2]
    title = next((part.text for part in parts if isinstance(part, Heading)), "")
    contents = sections if len(sections) > _FEW else []
    return environment.get_template("page.html").render(title=title, parts=placed, contents=contents)


def _place(parts: Sequence[Part]) -> list[Placed]:
    placed: list[Placed] = []
    taken: set[str] = set()
    section = ""
    for part in parts:
        anchor = ""
        if isinstance(part, Heading):
            section, anchor = part.text, _anchor(part.text, taken)
        placed.append(Placed(part, type(part).__name__, anchor, section))
    return placed


def _anchor(text: str, taken: set[str]) -> str:
    """A heading's text as far as it can stand in an address; a number more where another heading has the same."""
    base = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-") or "section"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _kept_together(name: str) -> str:
    """A column's name whose arrow, which says where better is, does not begin a line."""
    return name.replace(" ↑", "\N{NO-BREAK SPACE}↑").replace(" ↓", "\N{NO-BREAK SPACE}↓")


def _address(file: Path) -> str:
    """An SVG file's content as an address."""
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
