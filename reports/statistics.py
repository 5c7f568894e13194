"""What several seeds say: means, Student-t intervals, paired differences, Holm's correction.

Below three seeds there is no interval: with two, a t interval is so wide and so unsteady that it says nothing.

Student's distribution is scipy's `special.stdtr`: `scipy.stats`, which calls it too, takes a second more to import.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scipy import special

FEWEST = 3
CONFIDENCE = 0.95
FEWEST_ROUNDS = 6
"""Of the clock: a 95 % bootstrap interval of a median over 2, 3, 4 or 6 rounds holds it in 51, 76, 88 or 93 %."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Args:
        value: the mean; half: half the width of its 95 % interval, None below three seeds; n: number of seeds.
    """

    value: float
    half: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean difference paired by seed, ours minus the baseline's; p as `holm` corrected it."""

    mean: Mean
    p: float | None


def mean_interval(values: Sequence[float]) -> Mean:
    """The mean of one value per seed, with its Student-t interval."""
    n = len(values)
    value = math.fsum(values) / n
    if n < FEWEST:
        return Mean(value, None, n)
    return Mean(value, float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * _standard_error(values, value), n)


def paired_difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have (seed -> value); None where they share none."""
    shared = sorted(set(ours) & set(baseline))
    if not shared:
        return None
    differences = [ours[seed] - baseline[seed] for seed in shared]
    mean = mean_interval(differences)
    if mean.half is None:
        return Difference(mean, None)
    if mean.half == 0:
        return Difference(mean, 1.0 if mean.value == 0 else 0.0)
    t = mean.value / _standard_error(differences, mean.value)
    return Difference(mean, 2 * float(special.stdtr(mean.n - 1, -abs(t))))


def _standard_error(values: Sequence[float], mean: float) -> float:
    """The standard error of the values' mean, which is given."""
    n = len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1)) / math.sqrt(n)


def over_rounds(rounds: Collection[int]) -> str:
    """What stands behind a median over rounds, in words.

    Args:
        rounds: of the medians that are shown, over how many each is.
    """
    counts = sorted(set(rounds))
    number = f"{counts[0]} to {counts[-1]}" if counts[1:] else f"{counts[0]}" if counts else ""
    few = f"Below {FEWEST_ROUNDS} rounds there is no interval: a bootstrap of so few holds the truth too seldom"
    if not counts or counts[0] >= FEWEST_ROUNDS:
        return f"median [95 % bootstrap interval over {f'{number} ' if number else ''}rounds]"
    if counts[-1] < FEWEST_ROUNDS:
        return f"median over {number} rounds. {few}"
    return f"median [95 % bootstrap interval] over {number} rounds. {few}"


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number by Holm's step-down procedure, in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected
