"""Pages as Markdown, with tables that are also readable as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from reports.parts import Bullets, Code, Figure, Heading, Paragraph, Part, Table, Text


def render(parts: Sequence[Part]) -> str:
    """The page's text; figures are linked as files beside it."""
    return "\n\n".join(_part(part) for part in parts) + "\n"


def _part(part: Part) -> str:
    match part:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(lines):
            return "\n".join(_text(line) for line in lines)
        case Bullets(lines):
            return "\n".join(f"- {_text(line)}" for line in lines)
        case Table():
            return table(part)
        case Figure(file, alt):
            within = alt.replace("[", "\\[").replace("]", "\\]")
            return f"![{within}]({file.name})"


def _text(text: Text) -> str:
    pieces = (text,) if isinstance(text, str) else text
    return "".join(f"`{piece.text}`" if isinstance(piece, Code) else piece for piece in pieces)


def table(part: Table) -> str:
    """A table with aligned columns."""
    escaped = [[text.replace("|", "\\|") for text in line] for line in (part.header, *part.lines)]
    columns = range(len(part.header))
    widths = [max(3, *(len(line[column]) for line in escaped)) for column in columns]
    rules = [
        ":" + "-" * (width - 1) if column in part.left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]

    def render_line(line: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if column in part.left else text.rjust(width)
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([render_line(escaped[0]), render_line(rules), *(render_line(line) for line in escaped[1:])])
