"""The random numbers of object_collision's worlds: each a function of (world's key, what it is for, its number) alone.

Philox is a counter-based generator, so a draw is found by its place and not by what was drawn before it. Nothing that
is read in larger or smaller stretches, re-entered, or read beside other worlds can change what a world does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.randomness import derive

# A word of the counter says what numbers are for; particle p draws its velocities under VELOCITY + p.
_START, _STEP, _VELOCITY = 0, 1, 2

PER_STEP = 4
"""Uniform numbers of a step: change of colour of particles 0 and 1, which question is asked, of which pair."""
VELOCITIES = 256
"""Velocities of one block."""


def world_key(seed: int, split: str, row: int) -> int:
    """The key of the world that a batch row shows; differs between seeds, splits and rows."""
    return derive(seed, "object_collision", split, "row", row)


@dataclass(frozen=True)
class Start:
    """What a world begins with, before any rule is applied to it.

    Args:
        place: [2, 2] uniform in [0, 1), by particle and axis.
        velocity: [2, 2] standard normal, by particle and axis.
        colour: [2] uniform in [0, 1), by particle.
    """

    place: NDArray[np.float64]
    velocity: NDArray[np.float64]
    colour: NDArray[np.float64]


def start(key: int) -> Start:
    """A world's beginning."""
    draws = _generator(key, _START, 0, 0)
    return Start(draws.random((2, 2)), draws.standard_normal((2, 2)), draws.random(2))


def steps(key: int, first: int, count: int) -> NDArray[np.float64]:
    """Uniform numbers [count, PER_STEP] in [0, 1) of the steps ``first`` and on."""
    # One value of the counter gives four 64-bit words, which are PER_STEP uniform numbers.
    return _generator(key, _STEP, 0, first).random((count, PER_STEP))


def velocities(key: int, particle: int, block: int) -> NDArray[np.float64]:
    """Standard normal pairs [VELOCITIES, 2], by axis: those that a particle draws from ``block * VELOCITIES`` on."""
    return _generator(key, _VELOCITY + particle, block, 0).standard_normal((VELOCITIES, 2))


def _generator(key: int, purpose: int, block: int, first: int) -> np.random.Generator:
    counter = np.array([first, block, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([key, 0], dtype=np.uint64), counter=counter))
