"""Tracking moving objects: in which quadrant did particles of these two colours last collide? Error rate in per cent.

Two coloured particles move in a box of 16 x 16 cells, straight on until they would leave it, and change colour now and
then. After each step comes a question, an ordered pair of colours; the answer is the quadrant of the cell where the two
particles last were together in those colours (Sukhbaatar et al. 2021; `tasks/collision_world.py` has the rules). A step
is 8 tokens, of which the last carries the target. Each batch row is one endless world, never reset. A model must keep
the collisions, some 4 in 1,000 steps, and may forget all the rest.

    error = 100 * wrong answers / answers     over questions whose pair has met; and by distance, 8 x steps since then

``python -m tasks.object_collision --show`` draws a world, ``--statistics`` measures many.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from models.errors import SettingsError
from tasks.collision_stream import CollisionStream
from tasks.collision_world import CLASSES, TOKENS, Rules
from tasks.error_rate import ErrorRate
from tasks.stream import check_unscored
from tasks.train_settings import TrainSettings

CARD = {
    "title": "Object collision",
    "metric": "error",
    "unit": "%",
    "higher_is_better": False,
    "version": 1,
    "objective": "streams",
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.object_collision"
_EVALUATION_SEED = 0  # validation and test are the same worlds for every seed of training


@dataclass(frozen=True)
class Settings:
    """Settings of `object_collision`."""

    grid: int = 16
    """G, cells on either side of the box; even."""
    colours: int = 5
    """K, colours a particle can have."""
    colour_change: float = 0.05
    """Probability that a particle draws a colour in a step; it may draw the one it has."""
    ask_recent: float = 0.4
    """Probability that a question is about the pair that met last; else about any."""
    speed: float = 0.5
    """Standard deviation of a velocity's components, in cells per step."""
    burn_in_steps: int = 100_000
    """Steps that each world makes before its first token, so that (nearly) all pairs have met."""
    evaluation_questions: int = 20_000
    """Questions of validation, and of test, that are scored at least, over all rows together."""
    unscored_tokens: int = 1024
    """Tokens of each evaluation row that fill the memory first; at least the longest span of the methods compared."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    if settings.grid < 2 or settings.grid % 2:
        raise SettingsError(f"{_KEY}.grid", f"is {settings.grid}", "Give an even number, so that quadrants are equal.")
    for name in ("colours", "evaluation_questions"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    for name in ("burn_in_steps", "unscored_tokens"):
        if getattr(settings, name) < 0:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", "Give 0 or more.")
    if not 0 < settings.colour_change <= 1:
        raise SettingsError(f"{_KEY}.colour_change", f"is {settings.colour_change}", "Give a probability above 0.")
    if not 0 <= settings.ask_recent <= 1:
        raise SettingsError(f"{_KEY}.ask_recent", f"is {settings.ask_recent}", "Give a probability.")
    if not 0 < settings.speed <= settings.grid:
        remedy = f"Give a positive number up to the grid, {settings.grid}."
        raise SettingsError(f"{_KEY}.speed", f"is {settings.speed}", remedy)


def check_horizon(settings: Settings, horizon: int) -> None:
    """Raises SettingsError where memory could still be filling up when scoring begins.

    Args:
        horizon: how far back the method may see, in tokens.
    """
    check_unscored(_KEY, settings.unscored_tokens, horizon)


def rules(settings: Settings) -> Rules:
    """What holds in the worlds of these settings."""
    return Rules(settings.grid, settings.colours, settings.colour_change, settings.ask_recent, settings.speed)


def label(settings: Settings) -> str:
    """`object_collision`, or with what differs from the published world: `object_collision-4x4-2colours`."""
    parts = ["object_collision"]
    if settings.grid != Settings.grid:
        parts.append(f"{settings.grid}x{settings.grid}")
    if settings.colours != Settings.colours:
        parts.append(f"{settings.colours}colours")
    for name in ("colour_change", "ask_recent", "speed"):
        if getattr(settings, name) != getattr(Settings, name):
            parts.append(f"{name}{getattr(settings, name):g}")
    return "-".join(parts)


def encoder(settings: Settings, width: int) -> nn.Module:
    """One vector [width] per input symbol."""
    return nn.Embedding(rules(settings).vocabulary, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits [5] from hidden states [width]; class 0, a pair that never met, is never a target."""
    return nn.Linear(width, CLASSES)


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> CollisionStream:
    """The endless training rows `rows` of ``train.batch_size``."""
    return CollisionStream(rules(settings), seed, "train", rows, train.block_length, settings.burn_in_steps)


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> CollisionStream:
    """Worlds of their own for validation and test, in ``train.evaluation_batch_size`` rows."""
    rows = train.evaluation_batch_size
    # One in a hundred more than asked for: after burn-in far fewer than that have no answer.
    questions = -(-settings.evaluation_questions * 101 // (100 * rows)) + 1
    return CollisionStream(
        rules(settings),
        _EVALUATION_SEED,
        split,
        range(rows),
        train.block_length,
        settings.burn_in_steps,
        settings.unscored_tokens,
        -(-(settings.unscored_tokens + TOKENS * questions) // train.block_length),
    )


def scorer(settings: Settings, train: TrainSettings) -> ErrorRate:
    """A fresh count of errors."""
    return ErrorRate(
        {
            "block_length": train.block_length,
            "evaluation_batch_size": train.evaluation_batch_size,
            "burn_in_steps": settings.burn_in_steps,
            "unscored_tokens": settings.unscored_tokens,
        }
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.object_collision``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.object_collision", description="Looks at the task's worlds.")
    parser.add_argument("--show", action="store_true", help="draw some steps of one world")
    parser.add_argument("--statistics", action="store_true", help="measure what a correct generator must give")
    parser.add_argument("--grid", type=int, default=Settings.grid, help="cells on either side (%(default)s)")
    parser.add_argument("--colours", type=int, default=Settings.colours, help="colours (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which worlds (%(default)s)")
    chosen = parser.parse_args(arguments)
    if not (chosen.show or chosen.statistics):
        parser.error("give --show or --statistics")
    settings = Settings(grid=chosen.grid, colours=chosen.colours)
    try:
        check(settings, TrainSettings())
    except SettingsError as error:
        parser.error(str(error))
    from tasks import collision_view

    if chosen.show:
        collision_view.show(rules(settings), chosen.seed)
    if chosen.statistics:
        collision_view.print_statistics(rules(settings), chosen.seed)


if __name__ == "__main__":
    main()
