"""The acting tasks' worlds: the same in a batch as alone, as Gymnasium wants them, and worth what they should be."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torch import Tensor

from models.errors import SettingsError
from tasks import corridor, portal
from tasks.corridor_worlds import DOWN, FLOOR, LEFT, RIGHT, UP, WALL, CorridorWorlds
from tasks.episode_scores import Who
from tasks.gym_faces import ManyWorlds, OneWorld
from tasks.portal_worlds import DOOR, PortalWorlds
from tasks.train_settings import TrainSettings
from tasks.world_draws import uniform, whole, world_keys
from tasks.worlds import MOVES, Worlds

Make = Callable[[int, int], Worlds]


def corridors(count: int, first: int = 0) -> CorridorWorlds:
    return CorridorWorlds(4, 9, 2, count, first)


def small_portals(count: int, first: int = 0) -> PortalWorlds:
    return PortalWorlds(3, 3, "floor", 40, count, first)


def wall_portals(count: int, first: int = 0) -> PortalWorlds:
    return PortalWorlds(4, 5, "wall", 400, count, first)


WORLDS = [corridors, small_portals, wall_portals]


def test_draws_are_uniform_and_depend_on_seed_world_and_number_alone() -> None:
    keys = world_keys(7, 0, 4000, torch.device("cpu"))
    assert torch.equal(world_keys(7, 100, 5, torch.device("cpu")), keys[100:105])
    drawn = uniform(keys, 0, 50)
    assert torch.equal(uniform(keys, 20, 5), drawn[:, 20:25])
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    counts = torch.histc(drawn, 20, 0, 1) / drawn.numel()
    assert float((counts - 0.05).abs().max()) < 0.003
    for other in (uniform(world_keys(8, 0, 4000, torch.device("cpu")), 0, 50), drawn.roll(1, 0), drawn.roll(1, 1)):
        assert abs(float(torch.corrcoef(torch.stack([drawn.flatten(), other.flatten()]))[0, 1])) < 0.01
    numbers = whole(keys, 0, 50, 7)
    assert torch.bincount(numbers.flatten(), minlength=7).min() > 0.9 * numbers.numel() / 7


@pytest.mark.parametrize("make", [*WORLDS[:-1], pytest.param(WORLDS[-1], marks=pytest.mark.slow)])
def test_a_world_is_the_same_in_a_batch_and_alone(make: Make) -> None:
    many, ones = ManyWorlds(make(7, 0)), [OneWorld(make, number) for number in range(7)]
    seen, _ = many.reset(seed=4)
    assert np.array_equal(seen, np.stack([one.reset(seed=4)[0] for one in ones]))
    draws, over = np.random.default_rng(0), [False] * 7
    while not all(over):
        action = draws.integers(4, size=7)
        seen, reward, ended, truncated, _ = many.step(action)
        for number, one in enumerate(ones):
            if over[number]:
                assert reward[number] == 0
                with pytest.raises(RuntimeError, match="has ended"):
                    one.step(action[number])
                continue
            alone = one.step(action[number])
            assert np.array_equal(alone[0], seen[number])
            assert alone[1:4] == (reward[number], ended[number], truncated[number])
            for name, value in one.get_state().items():
                assert np.array_equal(value, many.get_state()[name][number])
            over[number] = bool(ended[number] or truncated[number])


@pytest.mark.parametrize("make", WORLDS)
def test_seeds_decide_worlds(make: Make) -> None:
    def states(seed: int) -> dict[str, Tensor]:
        worlds = make(50, 0)
        worlds.reset(seed)
        return worlds.get_state()

    first, again, other = states(1), states(1), states(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", WORLDS)
def test_gymnasium_accepts_one_world(make: Make) -> None:
    check_env(OneWorld(make), skip_render_check=True)


@pytest.mark.parametrize("make", WORLDS)
def test_any_seed_begins_an_episode(make: Make) -> None:
    assert np.array_equal(OneWorld(make).reset(seed=2**63 + 4)[0], OneWorld(make).reset(seed=4)[0])
    assert np.array_equal(ManyWorlds(make(3, 0)).reset(seed=2**63 + 4)[0], ManyWorlds(make(3, 0)).reset(seed=4)[0])


@pytest.mark.parametrize("make", WORLDS)
def test_one_world_is_rendered_as_text(make: Make) -> None:
    one = OneWorld(make, render_mode="ansi")
    one.reset(seed=3)
    before = one.render()
    assert before is not None
    assert before.count("@") == 1
    assert "#" in before
    for action in (UP, RIGHT, DOWN, LEFT):
        one.step(np.int64(action))
        if one.render() != before:
            break
    assert one.render() != before
    assert OneWorld(corridors).render() is None
    with pytest.raises(ValueError, match="render_mode is 'human'; give ansi"):
        OneWorld(corridors, render_mode="human")


def test_what_is_no_action_is_refused() -> None:
    many, one = ManyWorlds(corridors(3)), OneWorld(corridors)
    many.reset(seed=0)
    one.reset(seed=0)
    for wrong in (
        np.array([0, 4, 1]),
        np.array([0, -1, 1]),
        np.array([0, 1]),
        np.array([0.0, 1.5, 1.0]),
        np.array([True, False, True]),
    ):
        with pytest.raises(ValueError, match="is not in"):
            many.step(wrong)
    for action in (np.int64(4), np.int64(-1), np.float64(1.5)):
        with pytest.raises(ValueError, match="is not in"):
            one.step(action)  # type: ignore[arg-type]
    assert many.get_state()["time"].tolist() == [0] * 3
    assert one.get_state()["time"] == 0


def test_worlds_run_in_lockstep() -> None:
    many = ManyWorlds(corridors(3))
    assert many.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    many.reset(seed=1, options={"reset_mask": np.ones(3, dtype=bool)})
    with pytest.raises(ValueError, match="lockstep"):
        many.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(ValueError, match="one seed"):
        many.reset(seed=[1, 2, 3])
    for _ in range(many.worlds.horizon):
        _, _, ended, truncated, _ = many.step(np.full(3, LEFT))
    assert (ended.tolist(), truncated.tolist()) == ([False] * 3, [True] * 3)
    with pytest.raises(RuntimeError, match="reset the worlds"):
        many.step(np.full(3, LEFT))


def test_a_corridor_step_by_step() -> None:
    worlds = corridors(200)
    seen = worlds.reset(3)
    state = worlds.get_state()
    assert set(state["length"].tolist()) == set(range(4, 10))
    assert set(state["object"].tolist()) == {0, 1}
    assert seen[:, 0, 1].tolist() == (2 + state["object"]).tolist()
    assert (seen[:, 1] == torch.tensor([WALL, FLOOR, FLOOR])).all()
    assert (seen[:, [0, 0, 2, 2, 2], [0, 2, 0, 1, 2]] == WALL).all()
    for bump in (UP, DOWN, LEFT):
        step = worlds.step(torch.full((200,), bump))
        assert torch.equal(step.observation, seen)
    while int(worlds.place.min()) < 3:
        step = worlds.step(torch.full((200,), RIGHT))
    at_end = worlds.place == worlds.length - 1
    doors = step.observation[at_end][:, [0, 2], 1] - 4
    assert torch.equal(doors, worlds.door[at_end])
    assert torch.equal(doors.sort(1).values, torch.tensor([0, 1]).expand(len(doors), -1))
    step = worlds.step(torch.full((200,), UP))
    assert torch.equal(step.ended, at_end)
    assert torch.equal(step.reward > 0, at_end & (worlds.door[:, 0] == worlds.object))
    assert float(step.reward[at_end].mean()) == pytest.approx(0.5, abs=0.25)


def played(worlds: Worlds, oracle: bool, seed: int = 5) -> Tensor:
    """What each world was worth."""
    worlds.reset(seed)
    draws, worth = torch.Generator().manual_seed(1), torch.zeros(worlds.count)
    while not bool(worlds.ended.all()):
        worth += worlds.step(worlds.oracle(worlds.get_state()) if oracle else worlds.reactive(draws)).reward
    return worth


def coin_worth(rooms: int) -> float:
    """Rooms passed by one who tosses a coin at every visit, from the rules alone: exact, over (room, mistakes)."""

    def worth(room: int, mistakes: tuple[int, ...], passed: int) -> float:
        if room == rooms:
            return float(passed)
        on = worth(room + 1, mistakes, max(passed, room + 1))
        again = list(mistakes)
        again[room] += 1
        back = float(passed) if again[room] == 2 else worth(0, tuple(again), passed)
        return (on + back) / 2

    return worth(0, (0,) * rooms, 0)


def test_the_shortest_corridor_hides_the_object_at_its_doors() -> None:
    for length, hidden in ((2, False), (3, True)):
        worlds = CorridorWorlds(length, length, 2, 200)
        worlds.reset(3)
        for _ in range(length - 1):
            seen = worlds.step(torch.full((200,), RIGHT)).observation
        told = {
            (tuple(view), colour) for view, colour in zip(seen.flatten(1).tolist(), worlds.object.tolist(), strict=True)
        }
        assert (len({view for view, _ in told}) < len(told)) == hidden
    corridor.check(corridor.Settings(min_length=3, max_length=3), TrainSettings())
    with pytest.raises(SettingsError, match=r"task\.corridor\.min_length.*Give at least 3"):
        corridor.check(corridor.Settings(min_length=2, max_length=3), TrainSettings())


def test_coins_are_worth_what_is_known_of_them() -> None:
    assert [round(coin_worth(rooms), 3) for rooms in (2, 3, 4, 5)] == pytest.approx(
        [1.26, 1.545, 1.71, 1.82], abs=0.015
    )


@pytest.mark.parametrize(("rooms", "size", "doors"), [(2, 3, "floor"), (3, 3, "floor"), (3, 5, "wall"), (5, 3, "wall")])
def test_oracle_and_reactive_policy_score_what_they_should_in_portals(rooms: int, size: int, doors: Any) -> None:
    worlds = PortalWorlds(rooms, size, doors, 200 * rooms, 2000)
    assert (played(worlds, oracle=True) == rooms).all()
    assert float(played(worlds, oracle=False).mean()) == pytest.approx(coin_worth(rooms), abs=0.09)


def test_oracle_and_reactive_policy_score_what_they_should_in_corridors() -> None:
    worlds = corridors(2000)
    assert (played(worlds, oracle=True) == 1).all()
    assert float(played(worlds, oracle=False).mean()) == pytest.approx(0.5, abs=0.045)


class NaivePortal:
    """One chain of rooms, as the rules have it, one cell at a time."""

    def __init__(self, state: dict[str, Tensor], size: int) -> None:
        self.side, self.rooms = size + 2, state["door"].shape[0]
        self.door = [[divmod(int(cell), self.side) for cell in room] for room in state["door"]]
        self.onward, self.room, self.mistakes, self.best = state["onward"].tolist(), 0, [0] * self.rooms, 0
        self.place, self.over = (size // 2 + 1, size // 2 + 1), False
        self.time, self.since, self.second_try = -1, [-1] * self.rooms, [-1] * self.rooms
        self.mistaken_at: dict[int, int] = {}

    def at(self, row: int, column: int) -> int:
        if (row, column) in self.door[self.room]:
            return DOOR + self.door[self.room].index((row, column))
        return FLOOR if 0 < row < self.side - 1 and 0 < column < self.side - 1 else WALL

    def seen(self) -> list[int]:
        row, column = self.place
        return [self.at(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)] + [self.room]

    def step(self, action: int) -> float:
        if self.over:
            return 0.0
        self.time += 1
        if self.room in self.mistaken_at and self.since[self.room] == -1:
            self.since[self.room] = self.time - self.mistaken_at[self.room]
        target = (self.place[0] + MOVES[action][0], self.place[1] + MOVES[action][1])
        what = self.at(*target)
        if what == FLOOR:
            self.place = target
        if what < DOOR:
            return 0.0
        self.place = (self.side // 2, self.side // 2)
        if self.room in self.mistaken_at and self.second_try[self.room] == -1:
            self.second_try[self.room] = int(what - DOOR == self.onward[self.room])
        if what - DOOR != self.onward[self.room]:
            self.mistakes[self.room] += 1
            self.mistaken_at.setdefault(self.room, self.time)
            self.over = self.mistakes[self.room] == 2
            self.room = self.room if self.over else 0
            return 0.0
        reward = float(self.room + 1 > self.best)
        self.best = max(self.best, self.room + 1)
        self.over = self.room == self.rooms - 1
        self.room += not self.over
        return reward


@pytest.mark.parametrize("make", [small_portals, wall_portals])
def test_portals_follow_the_rules(make: Callable[[int], PortalWorlds]) -> None:
    worlds = make(60)
    seen = worlds.reset(2)
    state = worlds.get_state()
    naive = [NaivePortal({name: x[number] for name, x in state.items()}, worlds.size) for number in range(60)]
    draws = torch.Generator().manual_seed(0)
    for doors in state["door"].flatten(0, 1).tolist():
        assert doors[0] != doors[1]
    for _ in range(worlds.horizon):
        assert seen.tolist() == [one.seen() for one in naive]
        action = torch.randint(4, (60,), generator=draws)
        action = torch.where(torch.rand(60, generator=draws) < 0.5, worlds.reactive(draws), action)
        step = worlds.step(action)
        assert step.reward.tolist() == [one.step(move) for one, move in zip(naive, action.tolist(), strict=True)]
        seen = step.observation
    assert worlds.passed.tolist() == [one.best for one in naive]
    assert len(set(worlds.passed.tolist())) > 2
    assert worlds.since.tolist() == [one.since for one in naive]
    assert worlds.second_try.tolist() == [one.second_try for one in naive]
    assert set(worlds.second_try.flatten().tolist()) == {-1, 0, 1}
    assert worlds.since.max() > 4, "some were long in coming back"


def test_doors_stand_where_they_may() -> None:
    floor, wall = small_portals(500), wall_portals(500)
    floor.reset(0)
    wall.reset(0)
    assert set(floor.door.flatten().tolist()) == {6, 7, 8, 11, 13, 16, 17, 18}
    ring = {divmod(cell, 7) for cell in wall.door.flatten().tolist()}
    assert len(ring) == 20
    assert all((row in (0, 6)) != (column in (0, 6)) for row, column in ring)


def test_the_commands_draw_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    corridor.main(["--show", "--length", "5"])
    told = capsys.readouterr().out
    assert told.count("@") == 6, "five cells, and once more when the door has been taken"
    assert told.count("right\n") == 4
    portal.main(["--show"])
    assert "room 1 of 3, 0 passed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments", "oracle", "reactive"),
    [
        (corridor.main, ["--length", "5", "--longest", "7"], 100.0, 50.0),
        (portal.main, ["--rooms", "2", "--horizon", "90"], 2.0, coin_worth(2)),
    ],
)
def test_the_commands_tell_what_policies_score_and_how_fast_worlds_step(
    command: Callable[[list[str]], None],
    arguments: list[str],
    oracle: float,
    reactive: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command(["--statistics", *arguments])
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    scores = {who.partition(", ")[2]: float(text.split()[0]) for who, text in lines.items() if "+-" in text}
    assert scores["one who knows all"] == oracle
    assert scores["the best without memory"] == pytest.approx(reactive, rel=0.03)
    assert scores["any action"] < reactive
    assert lines["steps until the horizon"] == ("34" if command is corridor.main else "90")
    assert int(lines["steps of a world per second, 1,024 worlds, one core"].replace(",", "")) > 0
    with pytest.raises(SystemExit, match="2"):
        command(arguments)
    assert "give one of --show and --statistics" in capsys.readouterr().err


def test_chance_takes_all_actions_alike() -> None:
    worlds = corridors(4000)
    worlds.reset(0)
    counts = torch.bincount(worlds.chance(torch.Generator().manual_seed(0)), minlength=4)
    assert counts.min() > 900


def test_successes_are_counted_by_who_acted_and_by_length() -> None:
    worlds = CorridorWorlds(4, 23, 2, 3)  # twenty lengths, two to a part
    worlds.reset(0)
    worlds.length = torch.tensor([4, 5, 6])
    scorer = corridor.Successes(4, 23, {"evaluation_batch_size": 3})
    for who, success in (
        ("greedy", [1, 0, 1]),
        ("sampled", [0, 0, 1]),
        ("oracle", [1, 1, 1]),
        ("reactive", [0, 1, 1]),
        ("greedy", [1, 1, 1]),
    ):
        worlds.success = torch.tensor(success) > 0
        scorer.add(worlds, cast("Who", who))
    found = [
        (score.metric, score.context.get("length_min"), score.context.get("length_max")) for score in scorer.scores()
    ]
    values = [round(score.value, 2) for score in scorer.scores()]
    assert found == [
        ("success", None, None),
        ("success_sampled", None, None),
        ("success_oracle", None, None),
        ("success_reactive", None, None),
        ("success_by_length", 4, 5),
        ("success_by_length", 6, 7),
        ("success_oracle_by_length", 4, 5),
        ("success_oracle_by_length", 6, 7),
        ("success_reactive_by_length", 4, 5),
        ("success_reactive_by_length", 6, 7),
    ]
    assert values == [83.33, 33.33, 100.0, 66.67, 75.0, 100.0, 100.0, 100.0, 50.0, 100.0]
    assert [score.n for score in scorer.scores()] == [6, 3, 3, 3, 4, 2, 2, 1, 2, 1]


def test_rooms_are_counted_as_they_are_passed() -> None:
    worlds = small_portals(4)
    worlds.reset(0)
    scorer = portal.scorer(portal.Settings(), TrainSettings())
    worlds.passed = torch.tensor([0, 3, 1, 2])
    worlds.since = torch.tensor([[1, -1, -1], [-1, 7, 4], [1, -1, -1], [-1, -1, 9]])
    nobody = torch.full_like(worlds.second_try, -1)
    for who, passed, second_try in (
        ("greedy", [0, 0, 0, 1], torch.zeros_like(nobody)),
        ("sampled", [0, 3, 1, 2], torch.tensor([[0, -1, -1], [-1, 1, 0], [1, -1, -1], [-1, -1, -1]])),
        ("oracle", [3, 3, 3, 3], nobody),
        ("reactive", [1, 0, 3, 2], torch.tensor([[1, -1, -1], [-1, 1, -1], [1, -1, -1], [-1, -1, -1]])),
        ("chance", [0, 0, 0, 0], nobody),
    ):
        worlds.passed, worlds.second_try = torch.tensor(passed), second_try
        scorer.add(worlds, cast("Who", who))
    found = scorer.scores()
    assert [(score.metric, score.context.get("distance"), score.value, score.n) for score in found] == [
        ("rooms", None, 1.5, 4),
        ("rooms_greedy", None, 0.25, 4),
        ("rooms_oracle", None, 3.0, 4),
        ("rooms_reactive", None, 1.5, 4),
        ("rooms_chance", None, 0.0, 4),
        ("second_tries_by_distance", "1-1", 50.0, 2),
        ("second_tries_by_distance", "4-7", 50.0, 2),
        ("second_tries_reactive_by_distance", "1-1", 100.0, 2),
        ("second_tries_reactive_by_distance", "4-7", 100.0, 1),
    ]
    actions = {score.metric: score.context.get("actions") for score in found}
    assert actions == {
        "rooms": "drawn",
        "rooms_greedy": "likeliest",
        "rooms_oracle": None,
        "rooms_reactive": None,
        "rooms_chance": None,
        "second_tries_by_distance": "drawn",
        "second_tries_reactive_by_distance": None,
    }


def test_worlds_that_were_never_reset_say_so() -> None:
    with pytest.raises(RuntimeError, match="reset the worlds to begin one"):
        ManyWorlds(corridors(3)).step(np.zeros(3, dtype=np.int64))
    with pytest.raises(RuntimeError, match="reset the worlds to begin one"):
        OneWorld(corridors).step(np.int64(0))
    with pytest.raises(RuntimeError, match="reset the world to see it"):
        OneWorld(corridors, render_mode="ansi").render()


def test_the_oracle_needs_the_state_alone() -> None:
    for make in WORLDS:
        worlds, other = make(30, 0), make(30, 0)
        worlds.reset(3)
        other.reset(4)
        for _ in range(5):
            assert torch.equal(other.oracle(worlds.get_state()), worlds.oracle(worlds.get_state()))
            worlds.step(worlds.oracle(worlds.get_state()))
        assert worlds.get_state()["time"].tolist() == [5] * 30
