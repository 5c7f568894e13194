"""Ratios of step times, paired by round, with a bootstrap interval over rounds.

Both sides were measured in the same round, so what slows the machine for longer than a round slows both.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

from bench.clock.rounds import Timed
from bench.store.result import Row

FEWEST = 6
"""Rounds below which there is no interval: over 4 of them, one that calls itself 95 % holds the truth 88 times in 100,
over 2 every other time."""
_RESAMPLES = 2000


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """20th, 50th and 80th percentile, interpolated."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.2), at(0.5), at(0.8)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the median over rounds, the same in every call; None below `FEWEST`."""
    if len(values) < FEWEST:
        return None
    draws = random.Random(0)
    medians = sorted(statistics.median(draws.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return medians[round(0.025 * _RESAMPLES)], medians[round(0.975 * _RESAMPLES) - 1]


def rows(metric: str, own: Timed, other: Timed) -> list[Row]:
    """The ratio of medians of each round, and its median over rounds; no row where no round has both."""
    paired = [
        statistics.median(mine.samples_ms) / statistics.median(theirs.samples_ms)
        for mine, theirs in zip(own.rounds, other.rounds, strict=True)
        if mine is not None and theirs is not None
    ]
    return [_row(metric, paired, "ratio")] if paired else []


def overhead_rows(trainer: Timed, raw: Timed) -> list[Row]:
    """What Lightning's Trainer adds to a step and its input, as a share of it: wall times of whole turns.

    Where it could not be measured, the row has no value, and the reason in its context.
    """
    paired = [
        (mine.wall_ms / len(mine.samples_ms)) / (theirs.wall_ms / len(theirs.samples_ms)) - 1
        for mine, theirs in zip(trainer.rounds, raw.rounds, strict=True)
        if mine is not None and theirs is not None
    ]
    if not paired:
        failure = trainer.failure or raw.failure
        context = {"reason": failure.reason if failure else "no round has both"}
        return [Row("trainer_overhead", None, "share", "train", higher_is_better=False, context=context)]
    return [_row("trainer_overhead", paired, "share")]


def _row(metric: str, paired: list[float], unit: str) -> Row:
    p20, p50, p80 = percentiles(paired)
    low, high = interval(paired) or (None, None)
    kind = "95 % bootstrap over rounds" if low is not None else f"none: fewer than {FEWEST} rounds"
    context = {"low": low, "high": high, "interval": kind}
    return Row(metric, p50, unit, "train", len(paired), p20, p50, p80, False, context)
