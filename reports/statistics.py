"""What several seeds say: means, Student-t intervals, paired differences, Holm's correction.

Below three seeds there is no interval: with two, a t interval is so wide and so unsteady that it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

FEWEST = 3
CONFIDENCE = 0.95


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
    deviation = math.sqrt(math.fsum((x - value) ** 2 for x in values) / (n - 1))
    return Mean(value, float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * deviation / math.sqrt(n), n)


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
    return Difference(mean, float(stats.ttest_1samp(differences, 0.0).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number by Holm's step-down procedure, in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected
