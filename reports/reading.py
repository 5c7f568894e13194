"""How to read a quality table: what its figures are, in sentences below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports import method_settings
from reports.groups import Group, window
from reports.parts import Bullets, Code, Text
from reports.quality import TOLERANCE, QualityTable, size_flag
from reports.statistics import FEWEST

_TEST_SET: Mapping[str, str] = {
    "object_collision": (
        "All methods and seeds are tested on one fixed set of worlds, whose choice is not in ±: another set of 20,000 "
        "questions moves all methods together, by about 2 points in 4 x 4 cells and 0.8 in 16 x 16 (standard "
        "deviation). Differences are known better."
    )
}
"""By task, what ± over seeds leaves out because the test is the same for all of them."""


def reading(quality: QualityTable) -> Bullets:
    """What the figures of a table are, in sentences."""
    groups = [line.group for line in quality.lines]
    lines: list[Text] = [_evaluation(quality), _training(groups), *method_settings.sentences(groups)]
    lines += _windows(groups)
    if quality.split == "test":
        lines.append(
            "Tuning: how many settings of each method were tried before is not recorded; one that was tried more often "
            "may stand higher for that alone."
        )
    lines += _seeds(quality)
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


def _seeds(quality: QualityTable) -> list[Text]:
    """What several seeds say and leave open."""
    seeds = [line.cells - line.failed for line in quality.lines]
    lines: list[Text] = []
    if min(seeds) < FEWEST:
        lines.append(f"Fewer than {FEWEST} seeds: no interval, and no difference is shown to be real.")
    if max(seeds) >= FEWEST:
        lines.append(
            "± is half a Student-t 95 % interval over seeds; differences are paired by seed, their p values "
            "Holm-corrected within the table."
        )
    about_the_test = _TEST_SET.get(str(quality.lines[0].group.spec["task"]))
    return [*lines, about_the_test] if about_the_test else lines


def _evaluation(quality: QualityTable) -> str:
    rows = pd.concat([line.group.rows for line in quality.lines])
    found = rows[(rows["metric"] == quality.metric) & (rows["split"] == quality.split) & rows["value"].notna()]
    if found.empty:
        return f"No cell has a {quality.split} result yet."
    contexts = {
        f"blocks of {context.get('block_length')} tokens, {context.get('evaluation_batch_size')} rows"
        for context in found["context"]
        if isinstance(context, dict)
    }
    how = "; ".join(sorted(contexts))
    if quality.split == "validation":
        return f"Validation: the best point of each training; {how}."
    counts = sorted({int(n) for n in found["n"].dropna()})
    over = " or ".join(f"{n:,}" for n in counts)
    return f"Test: the whole split ({over} scored positions), with the weights of the best validation point; {how}."


def _training(groups: Sequence[Group]) -> str:
    """The training settings that all methods share; those that differ stand with their methods."""
    differing = method_settings.differing_training(groups)
    train = groups[0].spec["train"]
    shared = [
        f"{key.replace('_', ' ')} {train[key]}"
        for key in method_settings.TRAINING
        if key in train and key not in differing
    ]
    backbone = list(dict.fromkeys(_backbone(group.spec["backbone"]) for group in groups))
    text = f"Training: {', '.join(shared)}; backbone {'; '.join(backbone)}."
    apart = ", ".join(key.replace("_", " ") for key in differing)
    return f"{text} Not the same for all: {apart}; each method's stands with its name." if apart else text


def _backbone(settings: dict[str, Any]) -> str:
    norm = "pre-norm" if settings.get("pre_norm") else "post-norm"
    return (
        f"{settings.get('layers')} layers, width {settings.get('width')}, feed-forward {settings.get('feedforward')}, "
        f"{settings.get('heads')} heads, dropout {settings.get('dropout')}, {norm}"
    )


def _windows(groups: Sequence[Group]) -> list[str]:
    """That full attention within a window is Transformer-XL by another path."""
    return [
        f"{group.label} sees the last {window(group.spec)} positions and no more: what Transformer-XL of that "
        "memory_length computes, through another path."
        for group in groups
        if group.method == "full_attention"
        and window(group.spec) is not None
        and group.spec["method_settings"].get("positions", "learned") == "learned"
    ]
