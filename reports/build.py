"""Writes a study's report: the page, its figures, and every stored row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.store.atomic import write_bytes
from bench.store.frame import load
from reports import learning_curves, tradeoff
from reports.drawing import looks, write
from reports.efficiency import efficiency_table, frame
from reports.page import lines_frame, page, quality_tables
from reports.quality import QualityTable


def build_report(study: Path) -> tuple[str, list[Path]]:
    """Makes the report of a study in its folder `report/`.

    Returns:
        the page's text and the files written: report.md, quality.csv and efficiency.csv (the tables' figures), rows.csv
        (all stored rows), and each figure as SVG and PNG.

    Raises:
        FileNotFoundError: there is no such study.
    """
    table = load(study)
    tables = quality_tables(table)
    rows = table.assign(
        context=[json.dumps(context) if isinstance(context, dict) else "" for context in table["context"]]
    )
    folder = study / "report"
    folder.mkdir(exist_ok=True)
    cards = table.attrs["titles"]["methods"]
    drawn = [figures(study, quality, cards, folder, name) for quality, name in zip(tables, names(tables), strict=True)]
    text = page(table, tables, [[path.name for path in paths if path.suffix == ".svg"] for paths in drawn])
    contents = {
        "report.md": text,
        "quality.csv": lines_frame(tables).to_csv(index=False),
        "efficiency.csv": frame([found for table in tables if (found := efficiency_table(table))]).to_csv(index=False),
        "rows.csv": rows.to_csv(index=False),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
    return text, [folder / name for name in contents] + [path for paths in drawn for path in paths]


def figures(study: Path, quality: QualityTable, cards: Any, folder: Path, name: str) -> list[Path]:
    """Draws the figures of one table into a folder and returns the files.

    Args:
        cards: of the methods, by id.
        name: what the files' names begin with.
    """
    look = looks([line.group for line in quality.lines], cards)
    efficiency = efficiency_table(quality)
    drawn = {
        "learning-curves": learning_curves.draw(study, quality, look),
        "tradeoff": None if efficiency is None else tradeoff.draw(efficiency, look),
    }
    return [
        path
        for what, picture in drawn.items()
        if picture is not None
        for path in write(picture, folder, f"{name}-{what}")
    ]


def names(tables: list[QualityTable]) -> list[str]:
    """A file name for each table: its heading's, as far as it can stand in one."""
    return [re.sub(r"[^A-Za-z0-9_.-]+", "-", quality.heading).strip("-") for quality in tables]
