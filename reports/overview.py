"""The overview: each method's score on every task of a study, in one table, where there are several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.by_setting import by_setting
from reports.parts import Table
from reports.quality import Line, QualityTable, shown
from reports.references import WHO
from reports.statistics import Mean


def overview(tables: Sequence[QualityTable]) -> Table | None:
    """One line per method, in the order of the first table that has it.

    None where there is but one table, and where settings are varied in one: what stands beside what is told there.
    """
    if len(tables) < 2 or any(by_setting(table) for table in tables):
        return None
    columns = [{name: shown(line.score, table.unit) for name, line in _named(table).items()} for table in tables]
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [(name, *(column.get(name, "-") for column in columns)) for name in names]
    for who in WHO:
        scores = [
            shown(Mean(table.references[who], None, 1), table.unit) if who in table.references else "-"
            for table in tables
        ]
        if any(score != "-" for score in scores):
            lines.append((who, *scores))
    return Table(("method", *(_column(table) for table in tables)), tuple(lines))


def _column(table: QualityTable) -> str:
    arrow = "↑" if table.higher_is_better else "↓"
    return f"{table.heading}: {table.split} {table.metric} ({table.unit}) {arrow}"


def _named(table: QualityTable) -> dict[str, Line]:
    """A table's lines by method and variant; by their whole label where those do not tell them apart."""
    count = Counter(line.group.name for line in table.lines)
    return {
        line.group.name if count[line.group.name] == 1 else line.group.label: line
        for line in sorted(table.lines, key=lambda line: line.group.position)
    }
