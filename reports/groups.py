"""The lines of a table: cells that differ in nothing but their seed, under a label that tells them from the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

# Of a cell's spec: its seed and what says how it is run, not what it computes.
_APART = ("cell", "seed", "preset", "threads", "time_limit_s")


@dataclass(frozen=True)
class Group:
    """All seeds of one method with one set of settings on one task.

    Args:
        label: title, variant, and the settings that tell it from another group of the same name.
        spec: the settings of its cells, but for what `_APART` lists.
        rows: its part of the study's table.
    """

    label: str
    task_label: str
    method: str
    spec: dict[str, Any]
    rows: pd.DataFrame

    @property
    def cells(self) -> pd.DataFrame:
        """One line for each cell."""
        return self.rows.drop_duplicates("cell")

    def values(self, metric: str, split: str | None = None) -> dict[int, float]:
        """seed -> value of a metric, over the cells that have it."""
        found = self.rows[(self.rows["metric"] == metric) & self.rows["value"].notna()]
        if split is not None:
            found = found[found["split"] == split]
        return {int(seed): float(value) for seed, value in zip(found["seed"], found["value"], strict=True)}


def groups(table: pd.DataFrame) -> list[Group]:
    """A study's groups in the order of its manifest.

    Args:
        table: what `bench.store.frame.load` gave.
    """
    specs: Mapping[str, Mapping[str, Any]] = table.attrs["specs"]
    by_settings: dict[str, list[str]] = {}
    for cell in table["cell"].drop_duplicates():
        kept = {key: value for key, value in specs[cell].items() if key not in _APART}
        by_settings.setdefault(json.dumps(kept, sort_keys=True), []).append(cell)
    found = []
    for settings, cells in by_settings.items():
        spec = json.loads(settings)
        title = table.attrs["titles"]["methods"].get(spec["method"], {}).get("title", spec["method"])
        label = f"{title} ({spec['variant'].replace('+', ', ')})" if spec["variant"] else title
        found.append(Group(label, spec["task_label"], spec["method"], spec, table[table["cell"].isin(cells)]))
    return [_told_apart(group, found) for group in found]


def _told_apart(group: Group, others: list[Group]) -> Group:
    """The group with the settings in its label that groups of the same label do not share."""
    same = [other for other in others if (other.label, other.task_label) == (group.label, group.task_label)]
    if len(same) == 1:
        return group
    flat = [_flat(other.spec) for other in same]
    mine = _flat(group.spec)
    differing = [key for key in sorted(mine) if any(settings.get(key) != mine[key] for settings in flat)]
    extra = ", ".join(f"{key}={mine[key]}" for key in differing)
    return Group(f"{group.label} [{extra}]", group.task_label, group.method, group.spec, group.rows)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
