"""The extremely long copy: what was said must be said again, however long ago. Accuracy in per cent.

One episode after another in one stream, never aligned with the blocks: symbols, COPY, and the same symbols again
(`full`), or those alone that stood behind a MARK (`selective`; `tasks/copy_episodes.py` has the grammar). The symbols
that are copied carry the targets, each given all before it. In `full` all symbols must be kept until they are said; in
`selective` k of n, so a memory that forgets the others needs k slots.

    accuracy = 100 * right / copied symbols     over all; and by distance, from the symbol to its copy
    episodes = 100 * episodes without an error / episodes
    accuracy_chance = 100 / 26, a symbol named blindly

``python -m tasks.long_copy --show`` prints a stream, ``--statistics`` measures one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from models.errors import SettingsError
from tasks.answers import Answers
from tasks.copy_episodes import SYMBOLS, VOCABULARY, WORDS, CopyWriter
from tasks.stream import Score, check_unscored
from tasks.text_stream import TextStream
from tasks.train_settings import TrainSettings

CARD = {
    "title": "Long copy",
    "metric": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "version": 1,
    "objective": "streams",
    "solved": 0.95,
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.long_copy"
_EVALUATION_SEED = 0  # validation and test are the same text for every seed of training


@dataclass(frozen=True)
class Settings:
    """Settings of `long_copy`."""

    variant: Literal["full", "selective"] = "full"
    """Whether all symbols are copied, or only those behind a MARK."""
    n: int = 64
    """Symbols of an episode."""
    n_min: int | None = None
    """If given, an episode has n_min .. n symbols, so that no fixed distance solves it; else n."""
    k: int = 2
    """Selective only: symbols of an episode that are marked."""
    evaluation_symbols: int = 20_000
    """Copied symbols of validation, and of test, that are scored at least, over all rows together."""
    unscored_tokens: int = 1024
    """Tokens of each evaluation row that fill the memory first; at least the longest span of the methods compared."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    if settings.variant not in ("full", "selective"):
        raise SettingsError(f"{_KEY}.variant", f"is {settings.variant!r}", "Give full or selective.")
    for name in ("n", "evaluation_symbols"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    if settings.n_min is not None and not 1 <= settings.n_min <= settings.n:
        raise SettingsError(f"{_KEY}.n_min", f"is {settings.n_min}", f"Give 1 to n, which is {settings.n}.")
    least = settings.n if settings.n_min is None else settings.n_min
    if settings.variant == "selective" and not 1 <= settings.k <= least:
        raise SettingsError(f"{_KEY}.k", f"is {settings.k}", f"Give 1 to {least}, the least number of symbols.")
    if settings.unscored_tokens < 0:
        raise SettingsError(f"{_KEY}.unscored_tokens", f"is {settings.unscored_tokens}", "Give 0 or more.")


def check_horizon(settings: Settings, horizon: int) -> None:
    """Raises SettingsError where memory could still be filling up when scoring begins."""
    check_unscored(_KEY, settings.unscored_tokens, horizon)


def label(settings: Settings) -> str:
    """`long_copy` with its variant and sizes, such as `long_copy-selective-16-2`."""
    n = f"{settings.n}" if settings.n_min is None else f"{settings.n_min}to{settings.n}"
    return f"long_copy-{settings.variant}-{n}" + (f"-{settings.k}" if settings.variant == "selective" else "")


def writer(settings: Settings) -> CopyWriter:
    """What writes the text of these settings."""
    least = settings.n if settings.n_min is None else settings.n_min
    return CopyWriter(least, settings.n, settings.k if settings.variant == "selective" else None)


def encoder(settings: Settings, width: int) -> nn.Module:
    """One vector [width] per token."""
    return nn.Embedding(VOCABULARY, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits [28] from hidden states [width]; MARK and COPY are never targets."""
    return nn.Linear(width, VOCABULARY)


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> TextStream:
    """The endless training rows `rows` of ``train.batch_size``."""
    return TextStream(writer(settings), "long_copy", seed, "train", rows, train.block_length)


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> TextStream:
    """Rows of their own for validation and test, ``train.evaluation_batch_size`` of them."""
    rows = train.evaluation_batch_size
    copies = settings.k if settings.variant == "selective" else settings.n if settings.n_min is None else settings.n_min
    longest = 2 * settings.n + 1 if settings.variant == "full" else settings.n + 2 * settings.k + 1
    episodes = -(-settings.evaluation_symbols // (rows * copies))
    # An episode is under way when scoring begins, and one when it ends.
    blocks = -(-(settings.unscored_tokens + (episodes + 2) * longest) // train.block_length)
    return TextStream(
        writer(settings),
        "long_copy",
        _EVALUATION_SEED,
        split,
        range(rows),
        train.block_length,
        settings.unscored_tokens,
        blocks,
    )


class Copies(Answers):
    """Accuracy of copied symbols, episodes without an error, and accuracy by distance."""

    def scores(self) -> list[Score]:
        distance, _, right = self.tokens()
        _, _, exact = self.whole()
        by_distance = list(self.by_distance("accuracy_by_distance", distance, right))
        chance = 100 / SYMBOLS
        return [
            self.share("accuracy", right),
            self.share("episodes", exact),
            replace(self.share("accuracy_chance", right), value=chance),
            *by_distance,
            *(replace(score, metric="accuracy_chance_by_distance", value=chance) for score in by_distance),
        ]


def scorer(settings: Settings, train: TrainSettings) -> Copies:
    """A fresh count of copied symbols."""
    return Copies(
        {
            "block_length": train.block_length,
            "evaluation_batch_size": train.evaluation_batch_size,
            "unscored_tokens": settings.unscored_tokens,
        }
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.long_copy``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.long_copy", description="Looks at the task's text.")
    parser.add_argument("--show", action="store_true", help="print some episodes")
    parser.add_argument("--statistics", action="store_true", help="measure the text, and how fast it is written")
    parser.add_argument("--variant", choices=("full", "selective"), default=Settings.variant)
    parser.add_argument("--n", type=int, default=16, help="symbols of an episode (%(default)s)")
    parser.add_argument("--n-min", type=int, default=None, help="the least number of symbols (as --n)")
    parser.add_argument("--k", type=int, default=Settings.k, help="marked symbols (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which text (%(default)s)")
    chosen = parser.parse_args(arguments)
    if not (chosen.show or chosen.statistics):
        parser.error("give --show or --statistics")
    settings = Settings(variant=chosen.variant, n=chosen.n, n_min=chosen.n_min, k=chosen.k)
    try:
        check(settings, TrainSettings())
    except SettingsError as error:
        parser.error(str(error))
    from tasks import text_view

    if chosen.show:
        text_view.show(writer(settings), "long_copy", chosen.seed, "", WORDS, 300)
    if chosen.statistics:
        text_view.print_statistics(writer(settings), "long_copy", chosen.seed)


if __name__ == "__main__":
    main()
