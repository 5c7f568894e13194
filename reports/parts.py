"""What a page is made of: headings, paragraphs, bullets, tables, figures. `markdown` and `html` print them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Code:
    """Words to be typed, or a name as it stands in files, within a text."""

    text: str


Text = str | tuple[str | Code, ...]
"""A line of text; whatever stands in it is shown as it is, and never read as markup."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's, once and first."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Some lines of text."""

    lines: tuple[Text, ...]


@dataclass(frozen=True)
class Bullets:
    """A list, one line each."""

    lines: tuple[Text, ...]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its lines.

    Args:
        header: one name per column, with its unit.
        lines: the cells' texts.
        left: the columns of words, which are aligned to the left; the others hold numbers, and are to the right.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Figure:
    """A picture.

    Args:
        file: the SVG file, beside the page.
        alt: what is drawn, in a sentence, for those who cannot see it.
    """

    file: Path
    alt: str


Part = Heading | Paragraph | Bullets | Table | Figure
