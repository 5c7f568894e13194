"""Markdown tables that are also readable as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with aligned columns.

    Args:
        header: one name per column, with its unit.
        lines: the cells' texts.
        left: how many columns, from the first on, are aligned to the left; the others to the right.
    """
    escaped = [[text.replace("|", "\\|") for text in line] for line in (header, *lines)]
    widths = [max(3, *(len(line[column]) for line in escaped)) for column in range(len(header))]
    rule = [
        ":" + "-" * (width - 1) if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    ]

    def render(line: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join([render(escaped[0]), render(rule), *(render(line) for line in escaped[1:])])
