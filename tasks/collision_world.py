"""The worlds of object_collision: two coloured particles in a box, where they met last, and a question at every step.

Many worlds are advanced side by side, by many steps at a time. Each step of a world:

    move        both particles (`tasks/collision_motion.py`)
    recolour    each particle with probability `colour_change`, uniformly (it may keep its colour)
    record      if both are in one cell, the ordered pair of their colours records the cell's quadrant and the step
    ask         for a pair: with probability `ask_recent` the one that met last, else any; the answer is its record

B worlds, S steps, G cells a side, K colours; a pair is the number ``colour of particle 0 * K + colour of particle 1``.
A world's state holds both particles' motion and colours, the pair that met last, and the record of each pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import collision_draws
from tasks.collision_motion import Motion, move

TOKENS = 8
"""Tokens of a step: x, y and colour of either particle, then the two colours that are asked for."""
NEVER = -1
"""In place of a step or a pair: there was none."""
CLASSES = 5
"""Answers: 1 + [x >= G/2] + 2 [y >= G/2] of the cell; 0 where the pair has never met."""


@dataclass(frozen=True)
class Rules:
    """What holds in a world.

    Args:
        grid: G. colours: K.
        colour_change: probability that a particle draws a colour in a step.
        ask_recent: probability that the question is about the pair that met last.
        speed: standard deviation of a velocity's components, in cells per step.
    """

    grid: int = 16
    colours: int = 5
    colour_change: float = 0.05
    ask_recent: float = 0.4
    speed: float = 0.5

    @property
    def limit(self) -> float:
        """The box is the open interval (0, limit) on either axis."""
        return float(self.grid - 1)

    @property
    def vocabulary(self) -> int:
        """Input symbols: G for x, G for y, K for a particle's colour, K for a colour that is asked for."""
        return 2 * self.grid + 2 * self.colours


@dataclass(frozen=True)
class State:
    """B worlds after some steps.

    Args:
        step: how many steps they have made, the same for all.
        motion: of 2 B particles.
        colour: [B, 2] of either particle.
        recent: [B] the pair that met last, or NEVER.
        met: [B, K * K] the step at which each pair met last, or NEVER.
        answer: [B, K * K] the class of the cell it met in; 0 if never.
    """

    step: int
    motion: Motion
    colour: NDArray[np.int64]
    recent: NDArray[np.int64]
    met: NDArray[np.int64]
    answer: NDArray[np.int64]


@dataclass(frozen=True)
class Stretch:
    """Some steps of B worlds, as they are seen.

    Args:
        tokens: [B, S, 8].
        answer: [B, S] class of the step's question; 0 if that pair never met.
        age: [B, S] steps since that pair met; NEVER if it never did.
        collided: [B, S] whether the particles were in one cell.
    """

    tokens: NDArray[np.int16]
    answer: NDArray[np.int64]
    age: NDArray[np.int64]
    collided: NDArray[np.bool_]


def begin(rules: Rules, keys: Sequence[int]) -> State:
    """Worlds before their first step.

    Args:
        keys: one per world (`collision_draws.world_key`).
    """
    starts = [collision_draws.start(key) for key in keys]
    pairs = rules.colours**2
    place = np.concatenate([start.place for start in starts]).T * rules.limit
    velocity = np.concatenate([start.velocity for start in starts]).T * rules.speed
    return State(
        step=0,
        motion=Motion(place, velocity, *np.zeros((2, 2 * len(keys)), dtype=np.int64)),
        colour=np.stack([(start.colour * rules.colours).astype(np.int64) for start in starts]),
        recent=np.full(len(keys), NEVER, dtype=np.int64),
        met=np.full((len(keys), pairs), NEVER, dtype=np.int64),
        answer=np.zeros((len(keys), pairs), dtype=np.int64),
    )


def advance(rules: Rules, keys: Sequence[int], state: State, steps: int) -> tuple[Stretch, State]:
    """Lets worlds go on by some steps.

    Args:
        keys: one per world, those that `state` began with.
        steps: S, at least 1.

    Returns:
        the steps, and the state after them. `state` stays as it is.
    """
    worlds, pairs = len(keys), rules.colours**2
    moved, motion = move(state.motion, steps, rules.limit, rules.speed, keys)
    cells = moved.reshape(2, worlds, 2, steps)  # axis, world, particle, step
    draws = np.stack([collision_draws.steps(key, state.step, steps) for key in keys])  # [B, S, 4]
    colours = [_colours(rules, draws[:, :, particle], state.colour[:, particle]) for particle in range(2)]

    collided = (cells[:, :, 0] == cells[:, :, 1]).all(0)
    pair = colours[0] * rules.colours + colours[1]
    half = rules.grid // 2
    quadrant = 1 + (cells[0, :, 0] >= half) + 2 * (cells[1, :, 0] >= half)  # of particle 0, which is where both are
    records = _Records(state, steps, collided, pair, quadrant)

    recent = _latest(collided, pair, state.recent)
    any_pair = (draws[:, :, 3] * pairs).astype(np.int64)
    asked = np.where((draws[:, :, 2] < rules.ask_recent) & (recent != NEVER), recent, any_pair)
    met, answer = records.look_up(np.arange(worlds)[:, None], asked, np.arange(steps))
    age = np.where(met == NEVER, NEVER, state.step + np.arange(steps) - met)

    tokens = np.empty((worlds, steps, TOKENS), dtype=np.int16)
    for particle in range(2):
        tokens[:, :, 3 * particle] = cells[0, :, particle]
        tokens[:, :, 3 * particle + 1] = rules.grid + cells[1, :, particle]
        tokens[:, :, 3 * particle + 2] = 2 * rules.grid + colours[particle]
    tokens[:, :, 6] = 2 * rules.grid + rules.colours + asked // rules.colours
    tokens[:, :, 7] = 2 * rules.grid + rules.colours + asked % rules.colours

    last_met, last_answer = records.look_up(np.arange(worlds)[:, None], np.arange(pairs), steps - 1)
    after = State(
        step=state.step + steps,
        motion=motion,
        colour=np.stack([colour[:, -1] for colour in colours], axis=1),
        recent=recent[:, -1].copy(),
        met=last_met,
        answer=last_answer,
    )
    return Stretch(tokens, answer, age, collided), after


def _colours(rules: Rules, draws: NDArray[np.float64], before: NDArray[np.int64]) -> NDArray[np.int64]:
    """A particle's colours [B, S] from draws [B, S] and the colours [B] before. One draw says whether and which."""
    changed = draws < rules.colour_change
    drawn = np.zeros(draws.shape, dtype=np.int64)
    # Below `colour_change`, a draw divided by it is uniform again; rounding may make it 1.
    drawn[changed] = np.minimum(draws[changed] / rules.colour_change * rules.colours, rules.colours - 1)
    return _latest(changed, drawn, before)


def _latest(happened: NDArray[np.bool_], value: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value [B, S] at the last step that something happened, that step included; else what was `before` [B]."""
    known = np.concatenate([before[:, None], value], axis=1)
    place = np.where(happened, np.arange(1, value.shape[1] + 1), 0)
    latest: NDArray[np.int64] = np.take_along_axis(known, np.maximum.accumulate(place, axis=1), axis=1)
    return latest


class _Records:
    """Where and when each pair met last, as of any step of a stretch.

    All meetings stand in one list in order of (world, pair, step); what the state brought stands before each pair's
    first, so that every look-up finds something.
    """

    def __init__(
        self,
        state: State,
        steps: int,
        collided: NDArray[np.bool_],
        pair: NDArray[np.int64],
        quadrant: NDArray[np.int64],
    ) -> None:
        worlds, self.pairs = state.met.shape
        self.stride = steps + 1
        world, step = collided.nonzero()
        carried = np.arange(worlds * self.pairs) * self.stride
        keys = np.concatenate([carried, self._key(world, pair[world, step], step)])
        order = keys.argsort(kind="stable")
        self.keys = keys[order]
        self.met = np.concatenate([state.met.ravel(), state.step + step])[order]
        self.answer = np.concatenate([state.answer.ravel(), quadrant[world, step]])[order]

    def look_up(
        self, world: NDArray[np.int64], pair: NDArray[np.int64], step: NDArray[np.int64] | int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When the pair met last up to this step of the stretch, and the class of its cell."""
        found = self.keys.searchsorted(self._key(world, pair, step), side="right") - 1
        return self.met[found], self.answer[found]

    def _key(
        self, world: NDArray[np.int64], pair: NDArray[np.int64], step: NDArray[np.int64] | int
    ) -> NDArray[np.int64]:
        key: NDArray[np.int64] = (world * self.pairs + pair) * self.stride + step + 1
        return key
