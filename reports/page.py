"""The report's parts: a table per comparison, how to read it, what failed, where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports.efficiency import efficiency_parts, efficiency_table
from reports.groups import Group, comparisons, groups
from reports.parts import Bullets, Code, Figure, Heading, Paragraph, Part, Table, Text
from reports.quality import TOLERANCE, QualityTable, quality_part, quality_table, size_flag
from reports.statistics import FEWEST


def quality_tables(table: pd.DataFrame) -> list[QualityTable]:
    """One table for each comparison of the study, in its order."""
    result = []
    for heading, members in comparisons(groups(table)):
        card = _card(table.attrs["titles"]["tasks"].get(members[0].spec["task"], {}), members)
        if card is not None:
            result.append(quality_table(heading, card, members))
    return result


def _card(card: dict[str, Any], members: Sequence[Group]) -> dict[str, Any] | None:
    """A task's card; where a manifest that was lost has taken it along, what the results' first rows say of it."""
    keys = ("metric", "unit", "higher_is_better")
    if all(card.get(key) is not None for key in keys):
        return card
    for group in members:
        judged = group.rows[group.rows["higher_is_better"].notna()]
        for split in ("test", "validation"):
            found = judged[judged["split"] == split]
            if len(found):
                return {key: found.iloc[0][key] for key in keys}
    return None


def page(table: pd.DataFrame, tables: Sequence[QualityTable], figures: Sequence[Sequence[Figure]]) -> list[Part]:
    """The page's parts.

    Args:
        table: what `bench.store.frame.load` gave.
        tables: what `quality_tables` made of it.
        figures: those of each table.
    """
    parts: list[Part] = [Heading(1, table.attrs["study"]), *_about(table)]
    for quality, drawn in zip(tables, figures, strict=True):
        parts += [Heading(2, quality.heading), quality_part(quality), _reading(quality)]
        efficiency = efficiency_table(quality)
        if efficiency is not None:
            parts += [Heading(3, f"{quality.heading}: time and memory"), *efficiency_parts(efficiency)]
        parts += drawn
    return [*parts, *_not_ok(table), *_damaged(table), *_origin(table)]


def _about(table: pd.DataFrame) -> list[Part]:
    """What the preset says of itself."""
    presets = table.attrs["titles"].get("presets", {})
    lines = [(Code(name), f": {card['about']}.") for name, card in presets.items() if card.get("about")]
    return [Paragraph(tuple(lines))] if lines else []


def _reading(quality: QualityTable) -> Bullets:
    """What the figures of a table are, in sentences."""
    specs = [line.group.spec for line in quality.lines]
    lines: list[Text] = [_evaluation(quality), _training(specs)]
    seeds = [line.cells - line.failed for line in quality.lines]
    if min(seeds) < FEWEST:
        lines.append(f"Fewer than {FEWEST} seeds: no interval, and no difference is shown to be real.")
    if max(seeds) >= FEWEST:
        lines.append(
            "± is half a Student-t 95 % interval over seeds; differences are paired by seed, their p values "
            "Holm-corrected within the table."
        )
    lines.append(
        "Slots: memory per layer and stream after a block, mean over layers and the test split; alive may still be "
        "seen by a later query, allocated take space. State: bytes that one layer carries per stream."
    )
    if any(size_flag(line, quality) for line in quality.lines):
        usual = f"{quality.baseline.label}'s" if quality.baseline else "the median"
        lines.append(f"Parameters: a model that is more than {TOLERANCE:.0%} from {usual} has that beside its name.")
    if any(line.stale for line in quality.lines):
        lines.append(("Stale: made by other code than today's; ", Code("--retry stale"), " runs it again."))
    return Bullets(tuple(lines))


def _evaluation(quality: QualityTable) -> str:
    rows = pd.concat([line.group.rows for line in quality.lines])
    tests = rows[(rows["metric"] == quality.metric) & (rows["split"] == "test")]
    if tests.empty:
        return "No cell has a test result yet."
    contexts = {
        f"blocks of {context.get('block_length')} tokens, {context.get('evaluation_batch_size')} rows"
        for context in tests["context"]
        if isinstance(context, dict)
    }
    counts = sorted({int(n) for n in tests["n"].dropna()})
    over = " or ".join(f"{n:,}" for n in counts)
    how = "; ".join(sorted(contexts))
    return f"Test: the whole split ({over} scored positions), with the weights of the best validation point; {how}."


def _training(specs: Sequence[dict[str, Any]]) -> str:
    """The training settings that all methods share, and those in which they differ."""
    keys = ("steps", "batch_size", "block_length", "optimiser", "learning_rate", "schedule", "clip")
    shared: list[str] = []
    apart: list[str] = []
    for key in keys:
        values = list(dict.fromkeys(spec["train"].get(key) for spec in specs))
        (shared if len(values) == 1 else apart).append(f"{key.replace('_', ' ')} {', '.join(map(str, values))}")
    backbone = list(dict.fromkeys(_backbone(spec["backbone"]) for spec in specs))
    text = f"Training: {', '.join(shared)}; backbone {'; '.join(backbone)}."
    return f"{text} Not the same for all: {'; '.join(apart)}." if apart else text


def _backbone(settings: dict[str, Any]) -> str:
    norm = "pre-norm" if settings.get("pre_norm") else "post-norm"
    return (
        f"{settings.get('layers')} layers, width {settings.get('width')}, feed-forward {settings.get('feedforward')}, "
        f"{settings.get('heads')} heads, dropout {settings.get('dropout')}, {norm}"
    )


def _not_ok(table: pd.DataFrame) -> list[Part]:
    """Every cell that has no good result, and why."""
    cells = table.drop_duplicates("cell")
    bad = cells[cells["status"] != "ok"]
    if bad.empty:
        return []
    lines = [(str(row["cell"]), str(row["status"]), str(row["reason"] or "")) for _, row in bad.iterrows()]
    shown = Table(("cell", "status", "reason"), tuple(lines), left=(0, 1, 2))
    return [Heading(2, "Cells without a result"), shown]


def _damaged(table: pd.DataFrame) -> list[Part]:
    if not table.attrs["damaged"]:
        return []
    return [Heading(2, "Damaged files"), Bullets(tuple(table.attrs["damaged"]))]


def _origin(table: pd.DataFrame) -> list[Part]:
    """Versions, device and code of the results."""
    cells = table.drop_duplicates("cell")
    done = cells[cells["commit"].notna() | cells["torch"].notna()]
    if done.empty:
        return []

    def values(column: str) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(done[column].dropna()))

    lines = [
        f"Device: {values('device')}; {values('threads')} CPU thread(s) per cell; precision {values('precision')}.",
        f"PyTorch {values('torch')}, Lightning {values('lightning')}, Python {values('python')}.",
        f"Code: {', '.join(commit[:12] for commit in dict.fromkeys(done['commit'].dropna()))}"
        + (", with uncommitted changes." if bool(done["dirty"].fillna(False).any()) else "."),
        f"Cells took {_minutes(done['seconds'])} each; those are no timings.",
    ]
    return [Heading(2, "Where the numbers come from"), Bullets(tuple(lines))]


def _minutes(seconds: Any) -> str:
    low, high = float(seconds.min()), float(seconds.max())
    return f"{low:.0f} to {high:.0f} s" if high < 600 else f"{low / 60:.0f} to {high / 60:.0f} min"


def lines_frame(tables: Sequence[QualityTable]) -> pd.DataFrame:
    """The tables' figures as one frame, for the CSV."""
    records = []
    for quality in tables:
        for line in quality.lines:
            group: Group = line.group
            records.append(
                {
                    "table": quality.heading,
                    "task": group.task_label,
                    "method": group.method,
                    "label": group.label,
                    "metric": quality.metric,
                    "unit": quality.unit,
                    "higher_is_better": quality.higher_is_better,
                    "test": line.test.value if line.test else None,
                    "test_half_interval": line.test.half if line.test else None,
                    "validation": line.validation.value if line.validation else None,
                    "difference": line.difference.mean.value if line.difference else None,
                    "difference_half_interval": line.difference.mean.half if line.difference else None,
                    "difference_p_holm": line.difference.p if line.difference else None,
                    "cells": line.cells,
                    "cells_ok": line.cells - line.failed,
                    "cells_stale": line.stale,
                    "slots_alive": line.slots_alive,
                    "slots_allocated": line.slots_allocated,
                    "state_bytes": line.state_bytes,
                    "mean_span_tokens": line.mean_span,
                    "parameters": line.parameters,
                }
            )
    return pd.DataFrame(records)
