"""Corridor: see an object's colour, walk, and take the door of that colour. Success rate in per cent.

The agent begins beside an object of one of two colours and sees 3 x 3 cells; at the far end of the corridor are two
doors, one of the object's colour (`tasks/corridor_worlds.py` has the rules). Its colour must be remembered as long as
the way is. The right door is worth 1, the other 0; to run out of time counts as failure.

    success = 100 * episodes in which the right door was taken / episodes      greedy; sampled; by length

One who knows all takes the right door always; one who does not remember takes it every other time.

``python -m tasks.corridor --show`` draws an episode.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from models.errors import SettingsError
from tasks.actor_critic import LearningSettings, check_learning
from tasks.corridor_worlds import CorridorWorlds
from tasks.episode_scores import EpisodeScores, Who
from tasks.episodes import EpisodeSource, ObservationEncoder
from tasks.stream import Score
from tasks.train_settings import TrainSettings
from tasks.worlds import Worlds

CARD = {
    "title": "Corridor",
    "metric": "success",
    "unit": "%",
    "higher_is_better": True,
    "version": 1,
    "objective": "episodes",
    "solved": 0.95,
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.corridor"
_EVALUATION_SEED = 0  # validation and test are the same worlds for every seed of training


@dataclass(frozen=True)
class Settings(LearningSettings):
    """Settings of `corridor`."""

    min_length: int = 4
    """Cells of the shortest corridor."""
    max_length: int = 200
    """Cells of the longest corridor; lengths are uniform between. The horizon is 2 max_length + 20 steps."""
    colours: int = 2
    """Colours that an object may have."""
    evaluation_episodes: int = 1000
    """Episodes of validation, and of test, at least, both greedy and sampled."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    if not 3 <= settings.min_length <= settings.max_length:
        problem = (
            f"{settings.min_length} to {settings.max_length} is no range of lengths in which the object is forgotten"
        )
        remedy = "Give at least 3 (of 2 cells, the last one still shows the object), and max_length at least as much."
        raise SettingsError(f"{_KEY}.min_length", problem, remedy)
    if settings.colours < 2:
        raise SettingsError(f"{_KEY}.colours", f"is {settings.colours}", "Give at least 2: there is a wrong door.")
    check_learning(_KEY, settings, train)
    if settings.evaluation_episodes < 1:
        raise SettingsError(f"{_KEY}.evaluation_episodes", f"is {settings.evaluation_episodes}", "Give at least 1.")


def label(settings: Settings) -> str:
    """`corridor` with its lengths, such as `corridor-6to10`."""
    colours = "" if settings.colours == Settings.colours else f"-{settings.colours}colours"
    return f"corridor-{settings.min_length}to{settings.max_length}{colours}"


def worlds(settings: Settings, count: int, first: int, device: torch.device) -> CorridorWorlds:
    """Corridors `first`, first + 1, ... of a batch."""
    return CorridorWorlds(settings.min_length, settings.max_length, settings.colours, count, first, device)


def encoder(settings: Settings, width: int) -> nn.Module:
    """A vector [width] per cell seen and its symbol, added up."""
    return ObservationEncoder(worlds(settings, 1, 0, torch.device("cpu")).symbols, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits of four moves, and a value, from hidden states [width]."""
    return nn.Linear(width, CorridorWorlds.actions + 1)


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> EpisodeSource:
    """The training episodes."""
    return EpisodeSource("corridor", seed, "train")


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> EpisodeSource:
    """Episodes of their own for validation and test, greedy and sampled."""
    batches = -(-settings.evaluation_episodes // train.evaluation_batch_size)
    return EpisodeSource("corridor", _EVALUATION_SEED, split, 2 * batches)


class Successes(EpisodeScores):
    """Success rates: greedy, sampled, and by the corridor's length.

    Args:
        shortest, longest: lengths of the corridors; context: see `EpisodeScores`.
    """

    def __init__(self, shortest: int, longest: int, context: dict[str, str | int | float | bool]) -> None:
        super().__init__("success", "%", "greedy", context)
        self.shortest, self.longest = shortest, longest

    def add(self, worlds: Worlds, who: Who) -> None:
        assert isinstance(worlds, CorridorWorlds)
        self.count(100 * worlds.success.float(), who, worlds.length)

    def scores(self) -> list[Score]:
        return [*self.means(), *self.by_group("length", self.shortest, self.longest)]


def scorer(settings: Settings, train: TrainSettings) -> Successes:
    """A fresh count of successes."""
    context: dict[str, str | int | float | bool] = {"evaluation_batch_size": train.evaluation_batch_size}
    return Successes(settings.min_length, settings.max_length, context)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.corridor``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.corridor", description="Looks at the task's worlds.")
    parser.add_argument("--show", action="store_true", help="draw an episode of one who knows all")
    parser.add_argument("--length", type=int, default=8, help="cells of the corridor (%(default)s)")
    parser.add_argument("--longest", type=int, help="cells of the longest, of corridors from --length on (--length)")
    parser.add_argument("--seed", type=int, default=0, help="which corridor (%(default)s)")
    parser.add_argument("--statistics", action="store_true", help="what policies score, and how fast worlds step")
    chosen = parser.parse_args(arguments)
    if chosen.show == chosen.statistics:
        parser.error("give one of --show and --statistics")
    settings = Settings(min_length=chosen.length, max_length=chosen.longest or chosen.length)
    try:
        check(settings, TrainSettings())
    except SettingsError as error:
        parser.error(str(error))
    from tasks import worlds_view

    def made(count: int, first: int) -> CorridorWorlds:
        return worlds(settings, count, first, torch.device("cpu"))

    if chosen.show:
        worlds_view.show(made(1, 0), chosen.seed, lambda here: here.oracle(here.get_state()))
    else:
        worlds_view.print_statistics(made, chosen.seed, "success (%)", lambda here: 100 * here.success.double())


if __name__ == "__main__":
    main()
