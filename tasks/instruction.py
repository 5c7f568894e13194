"""Remember what you were told to do. Share of answers right in every word, in per cent.

A text world in the manner of LIGHT, in turns: chatter, instructions ("anna says : when the bell rings , bring the lamp
to hugo ."), corrections ("boris says : forget about the bell ."), and now and then something sounds ("the bell rings .
>"), whereupon the model must say what is to be done ("bring the lamp to hugo ."), or "wait ." if nothing is
(`tasks/instruction_world.py` has the rules). One endless stream per batch row, learned from the answers.

    answers = 100 * answers right in every word / answers     given the words before; over all
    acts, waits                                                those where something is to be done, and the others
    acts_by_distance                                           those, by tokens since the instruction
    answers_chance                                             of one who always says "wait ."

A model without memory knows that something sounded and not what was said: it scores on `wait` alone.

``python -m tasks.instruction --show`` prints a stream, ``--statistics`` measures one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from models.errors import SettingsError
from tasks.answers import Answers
from tasks.instruction_words import TRIGGERS, WORDS
from tasks.instruction_world import ACT, WAIT, InstructionWriter
from tasks.stream import Score, check_unscored
from tasks.text_stream import TextStream
from tasks.train_settings import TrainSettings

CARD = {
    "title": "Instruction",
    "metric": "answers",
    "unit": "%",
    "higher_is_better": True,
    "version": 1,
    "objective": "streams",
    "solved": 0.95,
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.instruction"
_EVALUATION_SEED = 0  # validation and test are the same text for every seed of training


@dataclass(frozen=True)
class Settings:
    """Settings of `instruction`."""

    triggers: int = 8
    """How many things may sound."""
    max_delay: int = 8
    """The longest time from an instruction to its trigger, in turns (of 10 tokens, on average)."""
    instruct: float = 0.35
    """Probability that a turn in which nothing is due gives an instruction, if some trigger has nothing pending."""
    unasked: float = 0.1
    """Probability that in such a turn a trigger with nothing pending sounds."""
    cancel: float = 0.1
    """Probability that an instruction is cancelled."""
    replace: float = 0.1
    """Probability that it is replaced by another for the same trigger."""
    evaluation_tokens: int = 200_000
    """Tokens of validation, and of test, over all rows together; at the settings above one in seven is an answer's."""
    unscored_tokens: int = 1024
    """Tokens of each evaluation row that fill the memory first; at least the longest span of the methods compared."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    if not 1 <= settings.triggers <= len(TRIGGERS):
        raise SettingsError(f"{_KEY}.triggers", f"is {settings.triggers}", f"Give 1 to {len(TRIGGERS)}.")
    for name in ("max_delay", "evaluation_tokens"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    for first, second in (("instruct", "unasked"), ("cancel", "replace")):
        values = getattr(settings, first), getattr(settings, second)
        if min(values) < 0 or sum(values) > 1:
            problem = f"and {_KEY}.{second} are {values[0]} and {values[1]}"
            raise SettingsError(f"{_KEY}.{first}", problem, "Give two probabilities of at most 1 together.")
    if settings.instruct == 0:
        raise SettingsError(f"{_KEY}.instruct", "is 0", "Give a probability above 0: without instructions none is due.")
    if settings.unscored_tokens < 0:
        raise SettingsError(f"{_KEY}.unscored_tokens", f"is {settings.unscored_tokens}", "Give 0 or more.")


def label(settings: Settings) -> str:
    """`instruction` with its triggers and longest delay, such as `instruction-8-8`."""
    return f"instruction-{settings.triggers}-{settings.max_delay}"


def check_horizon(settings: Settings, horizon: int) -> None:
    """Raises SettingsError where memory could still be filling up when scoring begins."""
    check_unscored(_KEY, settings.unscored_tokens, horizon)


def writer(settings: Settings) -> InstructionWriter:
    """What writes the text of these settings."""
    return InstructionWriter(
        settings.triggers, settings.max_delay, settings.instruct, settings.unasked, settings.cancel, settings.replace
    )


def encoder(settings: Settings, width: int) -> nn.Module:
    """One vector [width] per word."""
    return nn.Embedding(len(WORDS), width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits over all words from hidden states [width]."""
    return nn.Linear(width, len(WORDS))


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> TextStream:
    """The endless training rows `rows` of ``train.batch_size``."""
    return TextStream(writer(settings), "instruction", seed, "train", rows, train.block_length)


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> TextStream:
    """Rows of their own for validation and test, ``train.evaluation_batch_size`` of them."""
    rows = train.evaluation_batch_size
    tokens = settings.unscored_tokens + -(-settings.evaluation_tokens // rows)
    return TextStream(
        writer(settings),
        "instruction",
        _EVALUATION_SEED,
        split,
        range(rows),
        train.block_length,
        settings.unscored_tokens,
        -(-tokens // train.block_length),
    )


class Obedience(Answers):
    """Answers right in every word: of all, of each kind, and by distance of what was to be done."""

    def scores(self) -> list[Score]:
        distance, kind, right = self.whole()
        found = [self.share("answers", right)]
        for name, number in (("acts", ACT), ("waits", WAIT)):
            if bool((kind == number).any()):
                found.append(self.share(name, right[kind == number]))
        found.append(self.share("answers_chance", kind == WAIT))
        return [*found, *self.by_distance("acts_by_distance", distance, right)]


def scorer(settings: Settings, train: TrainSettings) -> Obedience:
    """A fresh count of answers."""
    return Obedience(
        {
            "block_length": train.block_length,
            "evaluation_batch_size": train.evaluation_batch_size,
            "unscored_tokens": settings.unscored_tokens,
        }
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.instruction``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.instruction", description="Looks at the task's text.")
    parser.add_argument("--show", action="store_true", help="print some turns")
    parser.add_argument("--statistics", action="store_true", help="measure the text, and how fast it is written")
    parser.add_argument("--triggers", type=int, default=Settings.triggers, help="what may sound (%(default)s)")
    parser.add_argument("--max-delay", type=int, default=Settings.max_delay, help="longest delay (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which text (%(default)s)")
    chosen = parser.parse_args(arguments)
    if not (chosen.show or chosen.statistics):
        parser.error("give --show or --statistics")
    settings = Settings(triggers=chosen.triggers, max_delay=chosen.max_delay)
    try:
        check(settings, TrainSettings())
    except SettingsError as error:
        parser.error(str(error))
    from tasks import text_view

    if chosen.show:
        text_view.show(writer(settings), "instruction", chosen.seed, " ", WORDS, 500)
    if chosen.statistics:
        text_view.print_statistics(writer(settings), "instruction", chosen.seed)


if __name__ == "__main__":
    main()
