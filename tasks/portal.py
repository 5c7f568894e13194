"""Portal: find out by trial which of two doors of each room leads on, and remember it. Rooms passed.

Rooms in a chain, each with two doors of two colours; one leads on, the other back to the first room, where all rooms
must be passed again (`tasks/portal_worlds.py` has the rules). A second mistake in one room ends the episode: what a
door did must be remembered. Passing a room for the first time is worth 1.

    rooms = mean of rooms passed, of 0 .. the number of rooms
    second_tries_by_distance = 100 * right ones / second tries     by steps from the mistake to being back

Both with actions that are drawn; `rooms_greedy` with the likeliest. One who knows all passes every room; one who does
not remember passes about 1.5 of 3, and 1.9 however many there are, and has to toss coins for that: who always takes the
likeliest action repeats its first mistake, and passes 0.875 of 3. So the metric is of drawn actions.

``python -m tasks.portal --show`` draws an episode.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.errors import SettingsError
from tasks.actor_critic import LearningSettings, check_learning
from tasks.distance_bins import bin_context, distance_bin
from tasks.episode_scores import EpisodeScores, Who
from tasks.episodes import EpisodeSource, ObservationEncoder
from tasks.portal_worlds import PortalWorlds
from tasks.stream import Score
from tasks.train_settings import TrainSettings
from tasks.worlds import Worlds

CARD = {
    "title": "Portal",
    "metric": "rooms",
    "unit": "rooms",
    "higher_is_better": True,
    "version": 2,  # 1 took the likeliest action
    "objective": "episodes",
    "solved": 0.95,
    "sizes": ["quick", "small", "paper"],
}
_KEY = "task.portal"
_EVALUATION_SEED = 0  # validation and test are the same worlds for every seed of training


@dataclass(frozen=True)
class Settings(LearningSettings):
    """Settings of `portal`."""

    rooms: int = 50
    """Rooms of the chain."""
    size: int = 5
    """Floor cells along a room's side; odd."""
    doors: Literal["wall", "floor"] = "wall"
    """Where doors are: in the walls, not in corners; or on the floor, not at the centre."""
    horizon: int = 5000
    """Steps of an episode."""
    evaluation_episodes: int = 1000
    """Episodes of validation, and of test, at least, both greedy and sampled."""


def check(settings: Settings, train: TrainSettings) -> None:
    """Raises SettingsError for settings that cannot work."""
    for name in ("rooms", "horizon", "evaluation_episodes"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{_KEY}.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    if settings.size < 3 or settings.size % 2 == 0:
        raise SettingsError(f"{_KEY}.size", f"is {settings.size}", "Give an odd number from 3 up: rooms have a centre.")
    if settings.doors not in ("wall", "floor"):
        raise SettingsError(f"{_KEY}.doors", f"is {settings.doors!r}", "Give wall or floor.")
    check_learning(_KEY, settings, train)


def label(settings: Settings) -> str:
    """`portal` with its rooms, such as `portal-3rooms-3x3`, and with `-floor` where doors are on the floor."""
    name = f"portal-{settings.rooms}rooms-{settings.size}x{settings.size}"
    return name + ("" if settings.doors == Settings.doors else f"-{settings.doors}")


def worlds(settings: Settings, count: int, first: int, device: torch.device) -> PortalWorlds:
    """Chains of rooms `first`, first + 1, ... of a batch."""
    return PortalWorlds(settings.rooms, settings.size, settings.doors, settings.horizon, count, first, device)


def encoder(settings: Settings, width: int) -> nn.Module:
    """A vector [width] per cell seen and its symbol, and one for the room's number, added up."""
    return ObservationEncoder(worlds(settings, 1, 0, torch.device("cpu")).symbols, width)


def head(settings: Settings, width: int) -> nn.Module:
    """Logits of four moves, and a value, from hidden states [width]."""
    return nn.Linear(width, PortalWorlds.actions + 1)


def training_source(settings: Settings, train: TrainSettings, seed: int, rows: range) -> EpisodeSource:
    """The training episodes."""
    return EpisodeSource("portal", seed, "train")


def evaluation_source(settings: Settings, train: TrainSettings, split: str) -> EpisodeSource:
    """Episodes of their own for validation and test, greedy and sampled."""
    batches = -(-settings.evaluation_episodes // train.evaluation_batch_size)
    return EpisodeSource("portal", _EVALUATION_SEED, split, 2 * batches)


class Passed(EpisodeScores):
    """Rooms passed; and the share of right second tries by how long ago the first was, of one who tosses coins too.

    Args:
        context: see `EpisodeScores`.
    """

    def __init__(self, context: dict[str, str | int | float | bool]) -> None:
        super().__init__("rooms", "rooms", "sampled", context)
        self._tries: dict[Who, list[Tensor]] = {}

    def add(self, worlds: Worlds, who: Who) -> None:
        assert isinstance(worlds, PortalWorlds)
        self.count(worlds.passed, who)
        tried = worlds.second_try >= 0
        tries = torch.stack([worlds.since[tried], worlds.second_try[tried]]).cpu()
        self._tries.setdefault(who, []).append(tries)

    def scores(self) -> list[Score]:
        return [*self.means(), *self._by_distance(self.who), *self._by_distance("reactive")]

    def _by_distance(self, who: Who) -> Iterator[Score]:
        distance, right = torch.cat(self._tries.get(who, [torch.empty(2, 0, dtype=torch.long)]), dim=1)
        bins = distance_bin(distance)
        for number in sorted(set(bins.tolist())):
            inside = right[bins == number].double()
            name, context = self.named("second_tries", who), {**self.context_of(who), **bin_context(number)}
            yield Score(f"{name}_by_distance", 100 * float(inside.mean()), "%", len(inside), True, context)


def scorer(settings: Settings, train: TrainSettings) -> Passed:
    """A fresh count of rooms."""
    return Passed({"evaluation_batch_size": train.evaluation_batch_size})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m tasks.portal``."""
    parser = argparse.ArgumentParser(prog="python -m tasks.portal", description="Looks at the task's worlds.")
    parser.add_argument("--show", action="store_true", help="draw an episode of one who tosses coins")
    parser.add_argument("--rooms", type=int, default=3, help="rooms of the chain (%(default)s)")
    parser.add_argument("--size", type=int, default=3, help="cells along a room's side (%(default)s)")
    parser.add_argument("--horizon", type=int, help="steps after which the episode ends (100 per room)")
    parser.add_argument("--doors", choices=("wall", "floor"), default="floor", help="where doors are (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which chain (%(default)s)")
    parser.add_argument("--statistics", action="store_true", help="what policies score, and how fast worlds step")
    chosen = parser.parse_args(arguments)
    if chosen.show == chosen.statistics:
        parser.error("give one of --show and --statistics")
    horizon = chosen.horizon or 100 * chosen.rooms
    settings = Settings(rooms=chosen.rooms, size=chosen.size, doors=chosen.doors, horizon=horizon)
    try:
        check(settings, TrainSettings())
    except SettingsError as error:
        parser.error(str(error))
    from tasks import worlds_view

    def made(count: int, first: int) -> PortalWorlds:
        return worlds(settings, count, first, torch.device("cpu"))

    if chosen.show:
        draws = torch.Generator().manual_seed(chosen.seed)
        worlds_view.show(made(1, 0), chosen.seed, lambda here: here.reactive(draws))
    else:
        worlds_view.print_statistics(made, chosen.seed, "rooms", lambda here: here.passed)


if __name__ == "__main__":
    main()
