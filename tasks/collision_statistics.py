"""What many worlds of object_collision are like, by which a generator can be checked against a published description.

Worlds are followed from a cold start, and their questions counted once burn-in is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tasks.collision_draws import world_key
from tasks.collision_stream import STRETCH, CollisionStream
from tasks.collision_world import CLASSES, NEVER, TOKENS, Rules, advance, begin


@dataclass(frozen=True)
class Statistics:
    """What was counted.

    Args:
        worlds, steps: how many worlds were followed, and for how many steps from a cold start.
        collision_rate: share of all steps in which the particles were in one cell.
        labelled: share of questions that have an answer, by (first step, last step) of the stretch counted.
        classes: share of each answer 1 .. 4 after burn-in.
        ages: [n] after burn-in, how many questions were about a collision n steps before.
    """

    worlds: int
    steps: int
    collision_rate: float
    labelled: dict[tuple[int, int], float]
    classes: list[float]
    ages: np.ndarray

    def age_quantile(self, share: float) -> int:
        """The age in steps that this share of the questions does not exceed."""
        return int((self.ages.cumsum() / self.ages.sum()).searchsorted(share))

    def guesser_error(self, tokens: int) -> float:
        """Error in per cent of one who knows the last so many tokens, and guesses the commonest class where it must."""
        beyond = self.ages[tokens // TOKENS + 1 :].sum() / self.ages.sum()
        return float(100 * beyond * (1 - max(self.classes)))


def measure(
    rules: Rules,
    seed: int = 0,
    worlds: int = 256,
    burn_in: int = 100_000,
    steps: int = 20_000,
    stretches: tuple[tuple[int, int], ...] = ((0, 10_000), (40_000, 50_000), (70_000, 100_000)),
) -> Statistics:
    """Follows worlds for ``burn_in + steps`` steps.

    Args:
        rules: of the worlds.
        seed: which worlds.
        burn_in: steps before answers and ages are counted.
        stretches: over which the share of answered questions is counted, as (first, last) step.
    """
    keys = [world_key(seed, "statistics", row) for row in range(worlds)]
    state = begin(rules, keys)
    collisions = 0
    answered = np.zeros(burn_in + steps, dtype=np.int64)
    classes = np.zeros(CLASSES, dtype=np.int64)
    ages = np.zeros(burn_in + steps, dtype=np.int64)
    while state.step < burn_in + steps:
        first = state.step
        end = burn_in if first < burn_in else burn_in + steps
        stretch, state = advance(rules, keys, state, min(STRETCH, end - first))
        collisions += int(stretch.collided.sum())
        answered[first : state.step] = (stretch.age != NEVER).sum(0)
        if first >= burn_in:
            known = stretch.age != NEVER
            classes += np.bincount(stretch.answer[known], minlength=CLASSES)
            ages += np.bincount(stretch.age[known], minlength=ages.size)
    return Statistics(
        worlds,
        burn_in + steps,
        collisions / (worlds * (burn_in + steps)),
        {(low, high): float(answered[low:high].mean() / worlds) for low, high in stretches if high <= answered.size},
        (classes[1:] / classes.sum()).tolist(),
        ages,
    )


@dataclass(frozen=True)
class Speed:
    """Tokens per second of reading blocks on this core, and how long burn-in took, in seconds of processor time."""

    tokens_per_second: float
    burn_in_seconds: float


def speed(rules: Rules, rows: int = 64, length: int = 256, burn_in: int = 100_000, blocks: int = 256) -> Speed:
    """Reads blocks [rows, length] as training does, and takes the time."""
    stream = CollisionStream(rules, 0, "speed", range(rows), length, burn_in)
    began = time.process_time()
    position = stream.start()
    burned = time.process_time()
    for _ in range(blocks):
        position = stream.read(position).position
    return Speed(rows * length * blocks / (time.process_time() - burned), burned - began)
