"""Writes a study's report: the page, its figures, and every stored row."""

from __future__ import annotations

import json
from pathlib import Path

from bench.store.atomic import write_bytes
from bench.store.frame import load
from reports.efficiency import efficiency_table, frame
from reports.page import lines_frame, page, quality_tables


def build_report(study: Path) -> tuple[str, list[Path]]:
    """Makes the report of a study in its folder `report/`.

    Returns:
        the page's text and the files written: report.md, quality.csv (the tables' figures), rows.csv (all stored rows).

    Raises:
        FileNotFoundError: there is no such study.
    """
    table = load(study)
    tables = quality_tables(table)
    text = page(table, tables)
    rows = table.assign(
        context=[json.dumps(context) if isinstance(context, dict) else "" for context in table["context"]]
    )
    folder = study / "report"
    folder.mkdir(exist_ok=True)
    contents = {
        "report.md": text,
        "quality.csv": lines_frame(tables).to_csv(index=False),
        "efficiency.csv": frame([found for table in tables if (found := efficiency_table(table))]).to_csv(index=False),
        "rows.csv": rows.to_csv(index=False),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
    return text, [folder / name for name in contents]
