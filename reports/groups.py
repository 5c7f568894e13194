"""The lines of a table: cells that differ in nothing but their seed, under a label that tells them from the others.

And which lines may share a table: those of one *comparison*, where task, data, budget, blocks, backbone and precision
are the same. What is left to differ is the method and how it was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

# Of a cell's spec: its seed and what says how it is run, not what it computes.
_APART = ("cell", "seed", "preset", "threads", "time_limit_s")
# What may differ between the lines of one table; all other keys of a spec, also ones that are yet to come, may not.
_OWN = ("method", "variant", "method_settings", "impl", "trainer", "train", "plugins")
# Methods whose title promises more than their settings may keep: the setting that bounds what they see.
_WINDOW = {"full_attention": "max_span"}
# The bound that all memories are measured against, full attention within its block alone, has a card of its own.
_BOUND = ("full_attention", "memory", "none")
_BOUND_CARD = {"title": "No memory", "colour": "#7F7F7F", "marker": "X"}
_BUDGET = ("steps", "batch_size", "block_length", "evaluation_batch_size")  # of train: what makes scores comparable


@dataclass(frozen=True)
class Group:
    """All seeds of one method with one set of settings on one task.

    Args:
        title: the method's, or that of no memory.
        variant: the settings by which the study names it, each as `key=value`, but for what the title says.
        window: how many positions it sees, as a variant is written, where the title promises more; else empty.
        label: title, variant, window, and the settings that tell it from another group of the same name.
        name: title and variant.
        position: its place in the study, from 0.
        spec: the settings of its cells, but for what `_APART` lists.
        rows: its part of the study's table.
        comparison: the settings that all lines of its table have in common, by dotted key.
    """

    title: str
    variant: tuple[str, ...]
    window: str
    label: str
    name: str
    position: int
    task_label: str
    method: str
    spec: dict[str, Any]
    rows: pd.DataFrame
    comparison: dict[str, Any]

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
    plain = table.copy(deep=False)
    plain.attrs = {}  # pandas copies them, every cell's spec, whenever rows are chosen
    for cell in plain["cell"].drop_duplicates():
        by_settings.setdefault(json.dumps(_computed(specs[cell]), sort_keys=True), []).append(cell)
    found: list[Group] = []
    for cells in by_settings.values():
        spec = _computed(specs[cells[0]])
        title = str(card_of(spec, table.attrs["titles"]["methods"]).get("title", spec["method"]))
        variant, bound = _variant(spec), _window(spec)
        name, label = named(title, variant), named(title, [*variant, bound])
        rows = plain[plain["cell"].isin(cells)]
        acts = table.attrs["titles"]["tasks"].get(spec["task"], {}).get("objective") == "episodes"
        found.append(
            Group(
                title=title,
                variant=tuple(variant),
                window=bound,
                label=label,
                name=name,
                position=len(found),
                task_label=spec["task_label"],
                method=spec["method"],
                spec=spec,
                rows=rows,
                comparison=_comparison(spec, acts),
            )
        )
    return [_told_apart(group, found) for group in found]


def without_memory(spec: Mapping[str, Any]) -> bool:
    """Whether a spec is of the bound that memories are measured against, where each block stands alone."""
    method, key, value = _BOUND
    return bool(spec["method"] == method and spec["method_settings"].get(key) == value)


def card_of(spec: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The title and look of a spec's method, from the methods' cards by id; no memory has its own."""
    return _BOUND_CARD if without_memory(spec) else cards.get(spec["method"], {})


def _variant(spec: Mapping[str, Any]) -> list[str]:
    """What of a spec's variant its title does not say."""
    _, key, value = _BOUND
    said = f"{key}={value}" if without_memory(spec) else ""
    return [part for part in spec["variant"].split("+") if part and part != said]


def named(title: str, variant: Sequence[str]) -> str:
    """A title with a variant's settings."""
    return f"{title} ({', '.join(filter(None, variant))})" if any(variant) else title


def window(spec: Mapping[str, Any]) -> int | None:
    """How many previous positions a method sees that by its title sees all; None for others, and where it sees all."""
    settings = spec["method_settings"]
    bounded = spec["method"] in _WINDOW and settings.get("memory") != "none"
    value = settings.get(_WINDOW[spec["method"]]) if bounded else None
    return None if value is None else int(value)


def _window(spec: Mapping[str, Any]) -> str:
    """A method's window for its label, as a variant is written; empty where the variant names it already."""
    bound = window(spec)
    key = _WINDOW.get(spec["method"], "")
    return "" if bound is None or f"{key}=" in spec["variant"] else f"{key}={bound}"


def _computed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What of a spec says what its cell computes, but for the seed: files of the user's by content, not by name."""
    kept = {key: value for key, value in spec.items() if key not in _APART}
    data = kept.pop("task_data", None) or {}
    own = {key: f"sha256 {data[key][:12]}" if key in data else value for key, value in kept["task_settings"].items()}
    plugins = [{key: value for key, value in plugin.items() if key != "path"} for plugin in kept.get("plugins", [])]
    return {**kept, "task_settings": own, "plugins": plugins}


def comparisons(found: Sequence[Group]) -> list[tuple[str, list[Group]]]:
    """The groups table by table, each with its heading, in the order in which they come.

    The heading is the task's label and, where several tables have the same one, the settings in which they differ:
    ``enwik8-4M (train.steps=200)``.
    """
    tables: list[list[Group]] = []
    for group in found:
        for members in tables:
            if members[0].comparison == group.comparison:
                members.append(group)
                break
        else:
            tables.append([group])
    return [(_heading(members[0], [other[0] for other in tables]), members) for members in tables]


def _heading(group: Group, firsts: Sequence[Group]) -> str:
    same = [other.comparison for other in firsts if other.task_label == group.task_label]
    differing = _differing(group.comparison, same)
    return f"{group.task_label} ({differing})" if differing else group.task_label


def _comparison(spec: Mapping[str, Any], acts: bool) -> dict[str, Any]:
    """What of a spec must be the same for all lines of a table, as dotted keys.

    In an acting task blocks say how learning is cut up, and an agent without memory learns from single steps.
    """
    kept = {key: value for key, value in spec.items() if key not in _OWN}
    kept[f"task.{spec['task']}"] = kept.pop("task_settings", {})
    kept["train"] = {key: spec.get("train", {}).get(key) for key in _BUDGET if not (acts and key == "block_length")}
    kept["trainer.precision"] = kept.pop("precision", None)
    for plugin in spec.get("plugins", []):
        if plugin["kind"] == "task":
            kept["task's file"] = plugin["sha256"][:8]
    return _flat(kept)


def _told_apart(group: Group, others: Sequence[Group]) -> Group:
    """The group with the settings in its label that groups of the same label in its table do not share."""
    same = [other for other in others if (other.label, other.comparison) == (group.label, group.comparison)]
    differing = _differing(_flat(group.spec), [_flat(other.spec) for other in same])
    return replace(group, label=f"{group.label} [{differing}]") if differing else group


def _differing(mine: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> str:
    """Those of `mine` that not all of them share: ``train.steps=200, trainer.precision=64-true``."""
    keys = sorted({key for settings in all_of_them for key in settings})
    return ", ".join(
        f"{key}={mine.get(key)}" for key in keys if any(settings.get(key) != mine.get(key) for settings in all_of_them)
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
