"""With which settings each method of a table was trained: in words for the page, as JSON for the CSVs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reports.groups import Group

TRAINING = ("steps", "batch_size", "block_length", "optimiser", "learning_rate", "schedule", "clip")
"""The training settings that the page names where all methods share them."""


def differing_training(groups: Sequence[Group]) -> list[str]:
    """The training settings in which the methods of a table differ."""
    keys = dict.fromkeys(key for group in groups for key in group.spec["train"])
    return [key for key in keys if len({_text(group.spec["train"].get(key)) for group in groups}) > 1]


def sentences(groups: Sequence[Group]) -> list[str]:
    """One line for each method: its own settings, its impl, and the training settings that not all methods share.

    What all methods of a table have alike is said once, and what a label says already is not said again:
    ``Expire-Span: max_span 192, ramp 16; learning rate 0.003.``
    """
    shared = _shared(groups)
    impls = {group.spec["impl"] for group in groups}
    alike = [_listed(shared), f"impl {min(impls)}" if len(impls) == 1 else ""]
    lines = [f"Alike in all lines: {'; '.join(filter(None, alike))}."] if any(alike) else []
    training = differing_training(groups)
    for group in groups:
        own = {key: value for key, value in group.spec["method_settings"].items() if key not in shared}
        trained = {key: group.spec["train"].get(key) for key in training}
        told = [
            _listed({key: value for key, value in own.items() if f"method_settings.{key}=" not in group.label}),
            f"impl {group.spec['impl']}" if len(impls) > 1 and "impl=" not in group.label else "",
            _listed({key: value for key, value in trained.items() if f"train.{key}=" not in group.label}),
        ]
        if any(told):
            lines.append(f"{group.label}: {'; '.join(filter(None, told))}.")
    return lines


def columns(group: Group) -> dict[str, str]:
    """A group's settings as JSON, for the CSVs."""
    return {key: json.dumps(group.spec[key]) for key in ("method_settings", "train")}


def _shared(groups: Sequence[Group]) -> dict[str, Any]:
    """The settings that all methods have, with one value; none where there is but one method."""
    first = groups[0].spec["method_settings"] if groups[1:] else {}
    return {
        key: value
        for key, value in first.items()
        if all(key in group.spec["method_settings"] for group in groups)
        and len({_text(group.spec["method_settings"][key]) for group in groups}) == 1
    }


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    """A value as it stands in a preset."""
    return value if isinstance(value, str) else json.dumps(value)
