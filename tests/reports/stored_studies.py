"""Studies of made-up results for the tests of reports: nothing is trained, everything is stored as a run would."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.spec import CellSpec
from bench.store import manifest
from bench.store.frame import load
from bench.store.result import Result, Row
from bench.store.statuses import Status
from reports import markdown
from reports.efficiency import efficiency_table
from reports.efficiency_part import frame
from reports.page import page, quality_tables

CARDS: dict[str, dict[str, Any]] = {
    "methods": {
        "transformer_xl": {"title": "Transformer-XL"},
        "expire_span": {"title": "Expire-Span"},
        "adaptive_span": {"title": "Adaptive-Span"},
        "compressive": {"title": "Compressive Transformer"},
        "full_attention": {"title": "Full attention"},
    },
    "tasks": {
        "enwik8": {"title": "enwik8", "metric": "bpb", "unit": "bits/byte", "higher_is_better": False},
        "object_collision": {"title": "Objects", "metric": "error", "unit": "%", "higher_is_better": False},
        "corridor": {
            "title": "Corridor",
            "metric": "success",
            "unit": "%",
            "higher_is_better": True,
            "objective": "episodes",
            "solved": 0.9,
        },
        "portal": {
            "title": "Portal",
            "metric": "rooms",
            "unit": "rooms",
            "higher_is_better": True,
            "objective": "episodes",
        },
    },
}
LABELS = {name: "enwik8-4M" if name == "enwik8" else name for name in CARDS["tasks"]}


def spec(
    method: str, seed: int = 0, variant: str = "", rate: float = 3e-3, task: str = "enwik8", **changes: Any
) -> CellSpec:
    """A cell; `changes` are fields of its spec, and those of ``train`` and ``backbone`` are added to what is there."""
    made = CellSpec(
        task=task,
        task_label=LABELS[task],
        task_version=1,
        task_settings={},
        method=method,
        variant=variant,
        method_settings={},
        impl="reference",
        backbone={"layers": 2, "width": 64, "feedforward": 256, "heads": 2, "dropout": 0.0, "pre_norm": False},
        train={"steps": 10, "batch_size": 4, "block_length": 8, "learning_rate": rate},
        trainer={},
        precision="32-true",
        seed=seed,
    )
    for name in ("train", "backbone"):
        changes[name] = {**getattr(made, name), **changes.get(name, {})}
    return replace(made, **changes)


@dataclass(frozen=True)
class Stored:
    """A cell with its result."""

    spec: CellSpec
    value: float | None = None
    """The task's metric on the test split; None for a cell without rows."""
    status: Status = Status.OK
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further rows: parameters, slots_alive and so on."""
    fingerprint: str | None = None
    reason: str = "it broke"
    """Of a cell that is not ok."""
    validation: float | None = None
    """The task's metric on validation, likewise."""
    scores: tuple[Row, ...] = ()
    """What else the task measured."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """What the row of the task's metric says of itself."""


def study(folder: Path, results: list[Stored]) -> Path:
    """A study in `folder` that has these results."""
    manifest.merge(folder, [stored.spec for stored in results], titles=CARDS)
    for stored in results:
        card, rows = CARDS["tasks"][stored.spec.task], []
        if stored.value is not None:
            better = card["higher_is_better"]
            context = {"block_length": stored.spec.train["block_length"], **stored.context}
            rows = [
                Row(card["metric"], stored.value, card["unit"], "test", 100, higher_is_better=better, context=context)
            ]
            if stored.validation is not None:
                rows.append(Row(card["metric"], stored.validation, card["unit"], "validation", context=context))
            rows += [*stored.scores, *(Row(name, value, "", "test") for name, value in stored.figures.items())]
        result = Result(
            stored.spec.id,
            stored.status,
            "" if stored.status is Status.OK else stored.reason,
            rows=rows,
            provenance={"fingerprint": stored.fingerprint},
            seconds=3.0,
            attempt=1,
        )
        manifest.cell_folder(folder, stored.spec.id).write_result(result)
    return folder


def page_of(study: Path, split: str = "test") -> str:
    """The text of a study's report, judged by a split, without its figures: most of a report's time is theirs."""
    table = load(study)
    tables = quality_tables(table, split)
    return markdown.render(page(table, tables, [[] for _ in tables]))


def efficiency_of(study: Path) -> pd.DataFrame:
    """A study's efficiency.csv, as a reader has it."""
    tables = [found for quality in quality_tables(load(study)) if (found := efficiency_table(quality))]
    text = io.StringIO(frame(tables).to_csv(index=False))
    return pd.read_csv(text) if tables else pd.DataFrame()


def line_of(text: str, label: str) -> list[str]:
    """The cells of the table line that begins with a label; of the first such line."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, heading: str) -> str:
    """What stands under a heading of the page."""
    parts = {part.splitlines()[0]: part for part in text.split("\n## ")}
    return parts[heading]
