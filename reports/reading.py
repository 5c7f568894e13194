"""How to read a quality table: what its figures are, in sentences below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports import method_settings
from reports.groups import Group, window
from reports.pairs import sentence
from reports.parts import Bullets, Code, Text
from reports.quality import TOLERANCE, QualityTable, shown, size_flag
from reports.references import WHO
from reports.statistics import FEWEST, Mean

_TEST_SET: Mapping[str, str] = {
    "object_collision": (
        "other worlds with 20,000 questions would shift scores, largely in common, by about 2 points in 4 x 4 cells "
        "and 0.8 in 16 x 16 (standard deviation; many questions are about one collision)"
    )
}
"""By task, what ± over seeds leaves out because the test is the same for all of them."""

_SCORED: Mapping[str, str] = {
    "enwik8": "bytes",
    "object_collision": "questions",
    "long_copy": "symbols",
    "instruction": "answers",
    "document_labels": "labels",
}
"""By task, what is scored."""


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
    lines += _beside(quality)
    when = "when the last world has ended" if _acts(quality) else "after a block"
    lines.append(
        f"Slots: memory per layer and stream {when}, mean over layers and the test split; alive may still be "
        "seen by a later query, allocated take space. State: bytes that one layer carries per stream."
    )
    if any(line.flops_per_token is not None for line in quality.lines):
        lines.append(
            "Cost: floating-point operations per token of all layers in a forward pass (a product and its sum are "
            "two), by the formula in the method's card: those of the impl reference with the slots allocated, whatever "
            "another impl skips. Encoder and head are not in it."
        )
    if any(size_flag(line, quality) for line in quality.lines):
        usual = f"{quality.baseline.label}'s" if quality.baseline else "the median"
        lines.append(f"Parameters: a model that is more than {TOLERANCE:.0%} from {usual} has that beside its name.")
    if any(line.stale for line in quality.lines):
        lines.append(("Stale: made by other code than today's; ", Code("--retry stale"), " runs it again."))
    return Bullets(tuple(lines))


def _acts(quality: QualityTable) -> bool:
    return quality.objective == "episodes"


def _beside(quality: QualityTable) -> list[Text]:
    """What the scores are to be read against."""
    lines: list[Text] = []
    if quality.solved_at is not None:
        at = shown(Mean(quality.solved_at, None, 1), quality.unit)
        lines.append(
            f"Solved: seeds with {quality.metric} of at least {at} {quality.unit}, of all that have ended, well or not."
        )
    if quality.references:
        who = "; ".join(f"{name}, {WHO[name]}" for name in quality.references)
        lines.append(f"Beside the models, {_where(quality)}: {who}.")
    return lines


def _where(quality: QualityTable) -> str:
    """What those beside the models were scored on."""
    rows = pd.concat([line.group.rows for line in quality.lines])
    rows = rows[(rows["split"] == quality.split) & rows["value"].notna() & rows["n"].notna()]
    models = rows[rows["metric"] == quality.metric]["n"]
    beside = rows[rows["metric"].isin([f"{quality.metric}_{name}" for name in quality.references])]
    if not _acts(quality) or not len(models) or not len(beside) or beside["n"].max() <= models.max():
        return "on the same test"
    return f"in the same worlds and in others, {_counts(beside)} episodes in all"


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
    lines += [text] if (text := sentence(quality)) else []
    return [*lines, *_test_set(quality)]


def _test_set(quality: QualityTable) -> list[Text]:
    """What ± over seeds leaves out, because the test is the same for all of them."""
    measured = [line.score for line in quality.lines if line.score is not None]
    if quality.split != "test" or all(score.half is None for score in measured):
        return []
    text = "All methods and seeds are tested on the same data, whose choice is not in ±"
    shift = _TEST_SET.get(str(quality.lines[0].group.spec["task"]))
    if _acts(quality) and quality.unit == "%":
        fewest = int(_rows(quality)["n"].min())
        error = 50 / fewest**0.5
        shift = f"{fewest:,} other episodes would shift scores by at most {error:.1f} points (one standard error)"
    return [f"{text}{f': {shift}' if shift else ''}. Differences between methods are known more precisely."]


def _scored(quality: QualityTable) -> str:
    """What is scored, in words."""
    return "episodes" if _acts(quality) else _SCORED.get(str(quality.lines[0].group.spec["task"]), "positions")


def _rows(quality: QualityTable) -> pd.DataFrame:
    """The rows of the table's metric."""
    rows = pd.concat([line.group.rows for line in quality.lines])
    return rows[(rows["metric"] == quality.metric) & (rows["split"] == quality.split) & rows["value"].notna()]


def _evaluation(quality: QualityTable) -> str:
    found = _rows(quality)
    if found.empty:
        return f"No cell has a {quality.split} result yet."
    if _acts(quality):
        return _acting(quality, found)
    contexts = {
        f"blocks of {context['block_length']} tokens, {context.get('evaluation_batch_size')} rows"
        for context in found["context"]
        if isinstance(context, dict) and "block_length" in context
    }
    how = "".join(f"; {context}" for context in sorted(contexts))
    if quality.split == "validation":
        return f"Validation: the best point of each training{how}."
    scored = f"{_counts(found)} {_scored(quality)}"
    return f"Test: the whole split ({scored}), with the weights of the best validation point{how}."


def _acting(quality: QualityTable, found: pd.DataFrame) -> str:
    """Which of an agent's actions its score is of, and what the other score is of."""
    drawn = any(isinstance(context, dict) and context.get("actions") == "drawn" for context in found["context"])
    ways = ("actions drawn as in training", "the likeliest action taken")
    (how, other), further = (ways, "greedy") if drawn else (ways[::-1], "sampled")
    if quality.split == "validation":
        return f"Validation: the best point of each training, {how}."
    return (
        f"Test: {_counts(found)} episodes, {how}, with the weights of the best validation point; "
        f"{quality.metric}_{further}: the same worlds, {other}."
    )


def _counts(rows: pd.DataFrame) -> str:
    """How many of what is scored the rows are made of."""
    return " or ".join(f"{n:,}" for n in sorted({int(n) for n in rows["n"].dropna()}))


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
