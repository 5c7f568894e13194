"""The report's parts: a table per comparison, how to read it, what failed, where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports import method_settings
from reports.by_distance import by_distance, by_distance_parts
from reports.by_setting import by_setting, by_setting_parts
from reports.efficiency import efficiency_table
from reports.efficiency_part import efficiency_parts
from reports.groups import Group, comparisons, groups
from reports.overview import overview
from reports.parts import Bullets, Code, Figure, Heading, Paragraph, Part, Table, Text
from reports.quality import QualityTable, quality_part, quality_table
from reports.reading import reading


def quality_tables(table: pd.DataFrame, split: str = "test") -> list[QualityTable]:
    """One table for each comparison of the study, in its order.

    Args:
        table: what `bench.store.frame.load` gave.
        split: ``validation`` for a study whose lines are there to be chosen from.
    """
    result = []
    for heading, members in comparisons(groups(table)):
        card = _card(table.attrs["titles"]["tasks"].get(members[0].spec["task"], {}), members)
        if card is not None:
            result.append(quality_table(heading, card, members, split))
    return result


def _card(card: dict[str, Any], members: Sequence[Group]) -> dict[str, Any] | None:
    """A task's card; where a manifest that was lost has taken it along, what the results' first rows say of it."""
    keys = ("metric", "unit", "higher_is_better")  # without its objective and from where on it counts as solved
    if all(card.get(key) is not None for key in keys):
        return card
    for group in members:
        judged = group.rows[group.rows["higher_is_better"].notna()]
        for split in ("test", "validation"):
            found = judged[judged["split"] == split]
            if len(found):
                return {key: found.iloc[0][key] for key in keys}
    return None


def page(
    table: pd.DataFrame,
    tables: Sequence[QualityTable],
    figures: Sequence[Sequence[Figure]],
    contexts: Sequence[Part] = (),
) -> list[Part]:
    """The page's parts.

    Args:
        table: what `bench.store.frame.load` gave.
        tables: what `quality_tables` made of it.
        figures: those of each table.
        contexts: what there is of controlled comparisons against context.
    """
    parts: list[Part] = [Heading(1, table.attrs["study"]), *_about(table, tables)]
    all_tasks = overview(tables)
    if all_tasks is not None:
        parts += [Heading(2, "All tasks"), all_tasks, Paragraph(("What each figure is stands with its task below.",))]
    for quality, drawn in zip(tables, figures, strict=True):
        parts += [Heading(2, quality.heading), quality_part(quality), reading(quality)]
        for varied in by_setting(quality):
            parts += by_setting_parts(quality, varied)
        efficiency = efficiency_table(quality)
        if efficiency is not None:
            parts += [Heading(3, f"{quality.heading}: time and memory"), *efficiency_parts(efficiency)]
        for distances in by_distance(quality):
            parts += by_distance_parts(quality, distances)
        parts += drawn
    return [*parts, *contexts, *_not_ok(table), *_damaged(table), *_origin(table)]


def _about(table: pd.DataFrame, tables: Sequence[QualityTable]) -> list[Part]:
    """What the preset says of itself, and how to read a study that chooses."""
    presets = table.attrs["titles"].get("presets", {})
    seeds = ", ".join(str(seed) for seed in sorted(table["seed"].unique()))
    lines: list[Text] = [
        (Code(name), f": {card['about']}. Seeds here: {seeds}.") for name, card in presets.items() if card.get("about")
    ]
    if any(quality.split == "validation" for quality in tables):
        lines.append(
            "This study serves to choose settings: its lines are ordered by validation, which alone chooses. Test "
            "scores are in the CSVs and not shown here, since whoever chooses by them has no test left."
        )
    return [Paragraph((line,)) for line in lines]


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
                    **method_settings.columns(group),
                    "ordered_by": quality.split,
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
                    "cells_ended": line.ended,
                    "cells_stale": line.stale,
                    "solved": line.solved,
                    "solved_at": quality.solved_at,
                    "slots_alive": line.slots_alive,
                    "slots_allocated": line.slots_allocated,
                    "state_bytes": line.state_bytes,
                    "flops_per_token": line.flops_per_token,
                    "mean_span_tokens": line.mean_span,
                    "mean_age_tokens": line.mean_age,
                    "parameters": line.parameters,
                }
            )
    return pd.DataFrame(records)
