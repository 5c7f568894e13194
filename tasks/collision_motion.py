"""How particles move in a box: straight on, and where the next step would leave the box, on a velocity drawn anew.

Particles do not see each other, and between two draws a particle flies straight. So each is followed from flight to
flight instead of from step to step: how many steps a flight lasts follows from where it began. P particles, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks import collision_draws
from tasks.collision_draws import VELOCITIES

_CANDIDATES = 4  # velocities looked at together; most redraws take one of the first two
_ENDLESS = 2**31  # steps; no flight of which anything is seen is longer


@dataclass(frozen=True)
class Motion:
    """Particles in flight.

    Args:
        origin: [2, P] by axis, where the flight began; velocity: [2, P] by axis, per step.
        flown: [P] steps since then: a particle is at ``origin + flown * velocity``.
        drawn: [P] how many velocities each has drawn since its start.
    """

    origin: NDArray[np.float64]
    velocity: NDArray[np.float64]
    flown: NDArray[np.int64]
    drawn: NDArray[np.int64]


def move(
    motion: Motion, steps: int, limit: float, speed: float, keys: Sequence[int]
) -> tuple[NDArray[np.int16], Motion]:
    """Moves particles by some steps.

    Args:
        motion: P = 2 * len(keys) particles, those of one world side by side.
        steps: S, at least 1.
        limit: the box is the open interval (0, limit) on either axis.
        speed: standard deviation of a velocity's components.
        keys: of the worlds.

    Returns:
        the cells [2, P, S] (places rounded, by axis), and the motion after the last step.
    """
    origin, velocity, flown = motion.origin.copy(), motion.velocity.copy(), motion.flown.copy()
    pool = _Velocities(keys, speed, motion.drawn.copy())
    free = flight_steps(origin, velocity, limit)
    done = np.zeros(flown.size, dtype=np.int64)  # each particle has its own time until all have arrived
    moving = np.arange(flown.size)
    flights = _Flights(flown.size, steps)
    while moving.size:
        count = np.minimum(free[moving] - flown[moving], steps - done[moving])
        flights.add(moving, done[moving], count, origin[:, moving], velocity[:, moving], flown[moving])
        done[moving] += count
        flown[moving] += count
        moving = moving[done[moving] < steps]
        if moving.size:
            place = origin[:, moving] + flown[moving] * velocity[:, moving]
            drawn = pool.draw(moving, place, limit)
            origin[:, moving], velocity[:, moving], flown[moving] = place, drawn, 0
            free[moving] = flight_steps(place, drawn, limit)  # 0 where none was found yet: the next round draws on
    return flights.cells(), Motion(origin, velocity, flown, pool.drawn)


def flight_steps(origin: NDArray[np.float64], velocity: NDArray[np.float64], limit: float) -> NDArray[np.int64]:
    """How many steps n keep ``origin + n * velocity`` [2, P] inside the box: [P], from 0 up."""
    room = np.where(velocity > 0, limit - origin, origin)
    with np.errstate(divide="ignore", invalid="ignore"):
        longest = np.nanmin(np.abs(room / velocity), axis=0)
    steps = np.minimum(longest, _ENDLESS).astype(np.int64)
    # The division may be off by a rounding, and the box is open: where the flight really ends, its own places say.
    steps += _inside(origin + (steps + 1) * velocity, limit)
    steps -= ~_inside(origin + steps * velocity, limit)
    counted: NDArray[np.int64] = np.maximum(steps, 0)
    return counted


def _inside(place: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Whether places [2, ...] lie in the box: [...]."""
    inside: NDArray[np.bool_] = (np.minimum(place[0], place[1]) > 0) & (np.maximum(place[0], place[1]) < limit)
    return inside


class _Flights:
    """The flights of a stretch, or what of them lies in it, written out step by step in the end."""

    def __init__(self, particles: int, steps: int) -> None:
        self.particles, self.steps = particles, steps
        self.first: list[NDArray[np.int64]] = []  # place of the flight's first step in an array [P, S], flattened
        self.count: list[NDArray[np.int64]] = []
        self.flown: list[NDArray[np.int64]] = []
        self.origin: list[NDArray[np.float64]] = []
        self.velocity: list[NDArray[np.float64]] = []

    def add(
        self,
        particle: NDArray[np.int64],
        begin: NDArray[np.int64],
        count: NDArray[np.int64],
        origin: NDArray[np.float64],
        velocity: NDArray[np.float64],
        flown: NDArray[np.int64],
    ) -> None:
        self.first.append(particle * self.steps + begin)
        self.count.append(count)
        self.flown.append(flown)
        self.origin.append(origin)
        self.velocity.append(velocity)

    def cells(self) -> NDArray[np.int16]:
        """The rounded places [2, P, S]; every step of every particle lies in exactly one flight."""
        first, count, flown = np.concatenate(self.first), np.concatenate(self.count), np.concatenate(self.flown)
        origin, velocity = np.concatenate(self.origin, axis=1), np.concatenate(self.velocity, axis=1)
        some = np.flatnonzero(count)  # a flight of no steps stands where the next one begins
        order = some[first[some].argsort()]
        count = count[order]
        number = np.arange(self.particles * self.steps) - np.repeat(first[order] - flown[order] - 1, count)
        cells = np.empty((2, number.size), dtype=np.int16)
        for axis in range(2):
            place = number * np.repeat(velocity[axis, order], count)
            place += np.repeat(origin[axis, order], count)
            cells[axis] = np.rint(place)
        return cells.reshape(2, self.particles, self.steps)


class _Velocities:
    """The velocities that particles draw, each from a sequence of its own, of which one block is at hand.

    Args:
        drawn: [P] how many each has drawn; counted on in place.
    """

    def __init__(self, keys: Sequence[int], speed: float, drawn: NDArray[np.int64]) -> None:
        self.keys, self.speed, self.drawn = keys, speed, drawn
        self.at_hand = np.empty((2, len(drawn), VELOCITIES))
        self.block = np.full(len(drawn), -1, dtype=np.int64)

    def draw(self, particles: NDArray[np.int64], place: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
        """Velocities [2, N] for particles [N] at places [2, N].

        Each draws until a velocity keeps it in the box, but no more than a few: then it has got one that does not.
        """
        block, index = np.divmod(self.drawn[particles], VELOCITIES)
        for which in np.flatnonzero(block != self.block[particles]):
            self._fetch(int(particles[which]), int(block[which]))
        last = np.minimum(index + _CANDIDATES, VELOCITIES) - 1
        some = np.minimum(index[:, None] + np.arange(_CANDIDATES), last[:, None])
        candidates = self.at_hand[:, particles[:, None], some]  # [2, N, candidates]
        stays = _inside(place[:, :, None] + candidates, limit)
        # Behind the last velocity of a block it stands again and again, so that `taken` never points beyond it.
        taken = np.minimum(np.where(stays.any(1), index + stays.argmax(1), last), last)
        self.drawn[particles] += taken + 1 - index
        return self.at_hand[:, particles, taken]

    def _fetch(self, particle: int, block: int) -> None:
        drawn = collision_draws.velocities(self.keys[particle // 2], particle % 2, block)
        self.at_hand[:, particle] = self.speed * drawn.T
        self.block[particle] = block
