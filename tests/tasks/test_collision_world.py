"""The worlds of object_collision, against a loop written from their description and against published statistics."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from models.registry import load_file
from tasks import collision_statistics
from tasks.collision_draws import VELOCITIES, world_key
from tasks.collision_motion import flight_steps
from tasks.collision_world import NEVER, Rules, State, Stretch, advance, begin

naive = load_file(Path(__file__).with_name("naive_collision.py"))

PUBLISHED = Rules()
SMALL = Rules(grid=4, colours=2)


def followed(rules: Rules, keys: list[int], *stretches: int) -> tuple[list[Stretch], State]:
    state, seen = begin(rules, keys), []
    for steps in stretches:
        stretch, state = advance(rules, keys, state, steps)
        seen.append(stretch)
    return seen, state


def joined(stretches: list[Stretch], name: str) -> np.ndarray:
    return np.concatenate([getattr(stretch, name) for stretch in stretches], axis=1)


@pytest.mark.parametrize(("rules", "steps"), [(PUBLISHED, 20_000), (SMALL, 5_000), (Rules(2, 1), 500)])
def test_worlds_are_those_of_a_loop_written_from_the_description(rules: Rules, steps: int) -> None:
    keys = [world_key(3, "train", row) for row in range(2)]
    (stretch,), state = followed(rules, keys, steps)
    for row, key in enumerate(keys):
        tokens, answers, ages = zip(*naive.world(key, steps, rules.grid, rules.colours), strict=True)
        np.testing.assert_array_equal(stretch.tokens[row], tokens)
        np.testing.assert_array_equal(stretch.answer[row], answers)
        np.testing.assert_array_equal(stretch.age[row], ages)
    if rules.grid > 2:
        assert set(stretch.answer.ravel().tolist()) == set(range(5))
        assert bool((state.motion.drawn > 2 * VELOCITIES).all())  # so that later blocks of velocities were used too


@pytest.mark.parametrize("rules", [PUBLISHED, SMALL])
def test_reading_in_other_stretches_changes_nothing(rules: Rules) -> None:
    keys = [world_key(0, "train", row) for row in range(3)]
    whole, after = followed(rules, keys, 3000)
    pieces, same = followed(rules, keys, 1, 1, 7, 1024, 300, 1, 1666)
    for name in ("tokens", "answer", "age", "collided"):
        assert np.array_equal(joined(whole, name), joined(pieces, name)), name
    for name in ("colour", "recent", "met", "answer"):
        assert np.array_equal(getattr(after, name), getattr(same, name)), name
    assert np.array_equal(after.motion.drawn, same.motion.drawn)
    assert np.array_equal(after.motion.origin, same.motion.origin)


def test_a_world_does_not_depend_on_its_neighbours() -> None:
    keys = [world_key(0, "train", row) for row in range(5)]
    (together,), _ = followed(PUBLISHED, keys, 2000)
    (apart,), _ = followed(PUBLISHED, keys[3:4], 2000)
    assert np.array_equal(together.tokens[3], apart.tokens[0])
    assert np.array_equal(together.age[3], apart.age[0])
    assert not np.array_equal(together.tokens[3], together.tokens[2])


def test_a_flight_ends_before_the_wall_and_never_touches_it() -> None:
    origin = np.array([[1.0, 1.0, 14.5, 0.25, 7.0], [1.0, 5.0, 7.0, 14.0, 7.0]])
    velocity = np.array([[0.5, -0.5, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 0.4, 0.0]])
    steps = flight_steps(origin, velocity, 15.0)
    assert steps[:4].tolist() == [27, 1, 1, 2]  # 1 + 28 * 0.5, 1 - 2 * 0.5 and 14.5 + 2 * 0.25 lie on the wall
    assert steps[4] > 10**9  # at rest


def test_data_change_only_with_the_task_version() -> None:
    keys = [world_key(0, "train", row) for row in range(4)]
    (stretch,), _ = followed(PUBLISHED, keys, 1000)
    text = stretch.tokens.astype("<i2").tobytes() + stretch.answer.astype("<i8").tobytes()
    assert hashlib.sha256(text).hexdigest()[:16] == "8218aee97ff40f98"  # version 1


def test_collisions_and_classes_of_a_few_worlds() -> None:
    keys = [world_key(1, "train", row) for row in range(128)]
    (stretch,), _ = followed(PUBLISHED, keys, 6000)
    assert stretch.collided.mean() == pytest.approx(0.0041, abs=0.0002)
    known = stretch.answer[stretch.age != NEVER]
    assert np.bincount(known, minlength=5)[1:] / known.size == pytest.approx(np.full(4, 0.25), abs=0.04)


@pytest.mark.slow
def test_statistics_are_the_published_ones() -> None:
    found = collision_statistics.measure(PUBLISHED)
    assert found.collision_rate == pytest.approx(0.0041, abs=0.0001)
    assert found.labelled[0, 10_000] == pytest.approx(0.61, abs=0.02)
    assert found.labelled[40_000, 50_000] == pytest.approx(0.993, abs=0.003)
    assert found.labelled[70_000, 100_000] >= 0.999
    assert all(0.24 <= share <= 0.26 for share in found.classes)
    assert found.age_quantile(0.5) == pytest.approx(1950, rel=0.05)
    assert found.age_quantile(0.75) == pytest.approx(9000, rel=0.05)
    for thousands, error in {1: 66.0, 4: 51.3, 16: 36.8, 32: 30.0, 64: 20.0}.items():
        assert found.guesser_error(1000 * thousands) == pytest.approx(error, abs=1.0), thousands


@pytest.mark.slow
@pytest.mark.parametrize("rules", [PUBLISHED, SMALL])
def test_blocks_are_read_faster_than_a_gpu_takes_them(rules: Rules) -> None:
    fastest = max(collision_statistics.speed(rules, burn_in=100, blocks=64).tokens_per_second for _ in range(3))
    assert fastest > 2_000_000


@pytest.mark.slow
def test_in_the_small_world_ten_thousand_steps_of_burn_in_are_enough() -> None:
    stretches = ((2_000, 10_000), (10_000, 12_000))
    found = collision_statistics.measure(SMALL, worlds=256, burn_in=10_000, steps=2_000, stretches=stretches)
    assert found.labelled[10_000, 12_000] >= 0.9995
