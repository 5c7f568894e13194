"""Labelling documents: what a name is, a fact says that may stand before it or after it. Accuracy in per cent.

A document is read in chunks of T tokens. It says one fact of every name, anywhere; where a name is mentioned, its label
is the class of that fact (`tasks/labelled_documents.py`). Who reads once knows no fact that is still to come, and can
do no better there than to guess: a document must be read to its end before it is labelled, and its facts be remembered.

    accuracy = 100 * right labels / mentions    over all; and by the distance between mention and fact, in tokens
    accuracy_before, accuracy_after             of mentions whose fact stands before, after them
    accuracy_chance = 100 / classes, a class named blindly

``python -m tasks.document_labels --show`` prints a document, ``--statistics`` measures some.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from models.errors import SettingsError
from tasks.answers import Answers
from tasks.labelled_documents import AFTER, BEFORE, Documents, DocumentStream
from tasks.stream import Score
from tasks.train_settings import TrainSettings

CARD = {
    "title": "Document labels",
    "metric": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "version": 1,
    "objective": "documents",
    "solved": 0.95,
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.document_labels"
_EVALUATION_SEED = 0  # validation and test are the same documents for every seed of training


@dataclass(frozen=True)
class Settings:
    """Settings of `document_labels`."""

    document_tokens: int = 256
    """Tokens of a document; a multiple of the block length."""
    names: int = 8
    """Names, of each of which a document says one fact."""
    classes: int = 4
    """Classes that a name may have."""
    fillers: int = 32
    """Tokens that say nothing."""
    mention: float = 0.2
    """Probability that a token that is no fact is a name, which is to be labelled."""
    evaluation_labels: int = 20_000
    """Mentions of validation, and of test, that are scored at least, over all rows together."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    for name, least in (("names", 1), ("classes", 2), ("fillers", 1), ("evaluation_labels", 1)):
        if getattr(settings, name) < least:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", f"Give at least {least}.")
    if not 0 < settings.mention <= 1:
        raise SettingsError(f"{_KEY}.mention", f"is {settings.mention}", "Give a probability above 0, at most 1.")
    if settings.document_tokens <= settings.names or settings.document_tokens % train.block_length:
        raise SettingsError(
            f"{_KEY}.document_tokens",
            f"is {settings.document_tokens}",
            f"Give a multiple of train.block_length ({train.block_length}) above the number of names.",
        )


def label(settings: Settings) -> str:
    """`document_labels` with its sizes, such as `document_labels-256-8`."""
    return f"document_labels-{settings.document_tokens}-{settings.names}"


def documents(settings: Settings) -> Documents:
    """What documents of these settings are like."""
    return Documents(settings.document_tokens, settings.names, settings.classes, settings.fillers, settings.mention)


def encoder(settings: Settings, width: int) -> nn.Module:
    """One vector [width] per token."""
    return nn.Embedding(documents(settings).vocabulary, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits [classes] from hidden states [width]."""
    return nn.Linear(width, settings.classes)


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> DocumentStream:
    """The endless training documents of the rows `rows` of ``train.batch_size``."""
    return DocumentStream(documents(settings), "document_labels", seed, "train", rows)


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> DocumentStream:
    """Documents of their own for validation and test, in ``train.evaluation_batch_size`` rows."""
    rows = range(train.evaluation_batch_size)
    endless = DocumentStream(documents(settings), "document_labels", _EVALUATION_SEED, split, rows)
    position, labels, count = endless.start(), 0, 0
    while labels < settings.evaluation_labels:
        batch = endless.read(position)
        position, labels, count = batch.position, labels + int(batch.weights.sum()), count + 1
    return DocumentStream(documents(settings), "document_labels", _EVALUATION_SEED, split, rows, count)


class Labels(Answers):
    """Accuracy of labels: of all, by which side the fact stands on, and by distance."""

    def __init__(self, settings: Settings, train: TrainSettings) -> None:
        super().__init__({"block_length": train.block_length, "evaluation_batch_size": train.evaluation_batch_size})
        self.classes = settings.classes

    def scores(self) -> list[Score]:
        distance, kind, right = self.tokens()
        sides = [("before", kind == BEFORE), ("after", kind == AFTER)]
        blind = 100 / self.classes
        by_distance = []
        for side, on_it in sides:
            known = list(self.by_distance(f"accuracy_{side}_by_distance", distance[on_it], right[on_it]))
            metric = f"accuracy_{side}_chance_by_distance"
            by_distance += [*known, *(replace(score, metric=metric, value=blind) for score in known)]
        chance = replace(self.share("accuracy_chance", right), value=blind)
        return [
            self.share("accuracy", right),
            *(self.share(f"accuracy_{side}", right[on_it]) for side, on_it in sides),
            chance,
            *by_distance,
        ]


def scorer(settings: Settings, train: TrainSettings) -> Labels:
    """A fresh count of labels."""
    return Labels(settings, train)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.document_labels``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.document_labels", description="Looks at documents.")
    parser.add_argument("--show", action="store_true", help="print a document")
    parser.add_argument("--statistics", action="store_true", help="measure documents, and how fast they are written")
    parser.add_argument("--tokens", type=int, default=Settings.document_tokens, help="of a document (%(default)s)")
    parser.add_argument("--names", type=int, default=Settings.names, help="names in it (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which documents (%(default)s)")
    chosen = parser.parse_args(arguments)
    if not (chosen.show or chosen.statistics):
        parser.error("give --show or --statistics")
    settings = Settings(document_tokens=chosen.tokens, names=chosen.names)
    try:
        check(settings, TrainSettings(block_length=1))
    except SettingsError as error:
        parser.error(str(error))
    rows = DocumentStream(documents(settings), "document_labels", chosen.seed, "train", range(64))
    if chosen.show:
        words, batch = documents(settings).words(), rows.read(rows.start())
        shown = zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), batch.weights[0].tolist(), strict=True)
        print(" ".join(f"{words[token]}[{label}]" if weight else words[token] for token, label, weight in shown))
    if chosen.statistics:
        position, began, read, mentions, ahead = rows.start(), time.perf_counter(), 0, 0, 0
        while read < 2_000_000:
            batch = rows.read(position)
            position, scored = batch.position, batch.weights > 0
            read += batch.inputs.numel()
            mentions += int(scored.sum())
            assert batch.kind is not None
            ahead += int((batch.kind[scored] == AFTER).sum())
        seconds = time.perf_counter() - began
        share = 100 * ahead / mentions
        print(f"labels: {100 * mentions / read:.1f} % of tokens, {share:.1f} % of them before their fact")
        print(f"speed: {read / seconds:,.0f} tokens per second, 64 rows, {torch.get_num_threads()} threads of PyTorch")


if __name__ == "__main__":
    main()
