"""Writes a study's report: the page as Markdown and as HTML, its figures, and every stored row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store.atomic import write_bytes
from bench.store.damaged import DamagedFile
from bench.store.frame import load
from reports import by_distance_figure, by_setting_figure, contexts, html, learning_curves, markdown, tradeoff
from reports.by_distance import by_distance
from reports.by_setting import by_setting
from reports.drawing import looks, write
from reports.efficiency import efficiency_table
from reports.efficiency_part import frame
from reports.page import lines_frame, page, quality_tables
from reports.pairs import pairs_frame
from reports.parts import Figure, Part
from reports.quality import QualityTable


def build_report(study: Path) -> tuple[str, list[Path]]:
    """Makes the report of a study in its folder `report/`.

    Returns:
        the page's text and the files written: report.md and report.html (the same page), quality.csv and efficiency.csv
        (the tables' figures), pairs.csv (each line against each), rows.csv (all stored rows), and each figure as SVG
        and PNG. Comparisons in the study's folder `contexts/` become parts of the page.

    Raises:
        FileNotFoundError: there is no such study.
    """
    table = load(study)
    tables = quality_tables(table, _split(study, table))
    rows = table.assign(
        context=[json.dumps(context) if isinstance(context, dict) else "" for context in table["context"]]
    )
    folder = study / "report"
    folder.mkdir(exist_ok=True)
    compared = _compared(study, table, folder)
    drawn = [*_draw(study, table, tables, folder), [part for part in compared if isinstance(part, Figure)]]
    parts = page(table, tables, drawn[: len(tables)], compared)
    text = markdown.render(parts)
    contents = {
        "report.md": text,
        "report.html": html.render(parts),
        "quality.csv": lines_frame(tables).to_csv(index=False),
        "pairs.csv": pairs_frame(tables).to_csv(index=False),
        "efficiency.csv": frame([found for table in tables if (found := efficiency_table(table))]).to_csv(index=False),
        "rows.csv": rows.to_csv(index=False),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
    return text, [folder / name for name in contents] + _files(drawn)


def _compared(study: Path, table: pd.DataFrame, folder: Path) -> list[Part]:
    """Draws the controlled comparisons in the study's folder `contexts/`, as `bench clock --out` wrote them."""
    found: list[Part] = []
    for file in sorted((study / "contexts").glob("*.json")):
        try:
            content = contexts.read(file)
        except DamagedFile as error:
            table.attrs["damaged"].append(f"contexts/{file.name} is damaged: {error.why}")
            continue
        svg, _ = write(contexts.drawing_of(content), folder, f"{file.stem}-contexts")
        found += contexts.parts(content, file.stem, svg, level=2)
    return found


def draw_figures(study: Path) -> list[Path]:
    """Draws a study's figures again, and nothing else of its report.

    Returns:
        the files written, each figure as SVG and PNG.

    Raises:
        FileNotFoundError: there is no such study.
    """
    table = load(study)
    folder = study / "report"
    folder.mkdir(exist_ok=True)
    compared = [part for part in _compared(study, table, folder) if isinstance(part, Figure)]
    return _files([*_draw(study, table, quality_tables(table, _split(study, table)), folder), compared])


def _split(study: Path, table: pd.DataFrame) -> str:
    """The split by which a study's lines are judged: validation for a sweep, which its file marks, or if asked for."""
    presets = table.attrs["titles"].get("presets", {}).values()
    chosen = (study / "sweep.json").exists() or any(card.get("judged_by") == "validation" for card in presets)
    return "validation" if chosen else "test"


def _files(drawn: Iterable[list[Figure]]) -> list[Path]:
    return [path for found in drawn for figure in found for path in (figure.file, figure.file.with_suffix(".png"))]


def _draw(study: Path, table: pd.DataFrame, tables: list[QualityTable], folder: Path) -> list[list[Figure]]:
    """Each table's figures, drawn into the folder."""
    cards = table.attrs["titles"]["methods"]
    return [figures(study, quality, cards, folder, name) for quality, name in zip(tables, names(tables), strict=True)]


def figures(study: Path, quality: QualityTable, cards: Any, folder: Path, name: str) -> list[Figure]:
    """Draws the figures of one table into a folder.

    Args:
        cards: of the methods, by id.
        name: what the files' names begin with.
    """
    found: list[Figure] = []
    varied = by_setting(quality)
    for each in varied:
        svg, _ = write(by_setting_figure.draw(quality, each, cards), folder, f"{name}-by-setting-{each.key}")
        found.append(Figure(svg, by_setting_figure.alt(quality, each)))
    look = looks([line.group for line in quality.lines], cards)
    efficiency = efficiency_table(quality)
    step_ms = {line.line.group.label: line.time.value for line in efficiency.lines} if efficiency else {}
    # Of settings that are varied there are too many lines for figures along anything else; the page says so.
    picture = None if varied else learning_curves.draw(study, quality, look, step_ms)
    if picture is not None:
        svg, _ = write(picture, folder, f"{name}-learning-curves")
        found.append(Figure(svg, learning_curves.alt(quality, bool(picture.axes[2:]))))
    all_distances = [] if varied else by_distance(quality)
    for distances in all_distances:
        own = f"-{distances.metric.replace('_', '-')}" if len(all_distances) > 1 else ""
        svg, _ = write(by_distance_figure.draw(quality, distances, look), folder, f"{name}{own}-by-distance")
        found.append(Figure(svg, by_distance_figure.alt(quality, distances)))
    picture = None if efficiency is None else tradeoff.draw(efficiency, look)
    if efficiency is not None and picture is not None:
        svg, _ = write(picture, folder, f"{name}-tradeoff")
        found.append(Figure(svg, tradeoff.alt(efficiency)))
    return found


def names(tables: list[QualityTable]) -> list[str]:
    """A file name for each table: its heading's, as far as it can stand in one."""
    return [re.sub(r"[^A-Za-z0-9_.-]+", "-", quality.heading).strip("-") for quality in tables]
