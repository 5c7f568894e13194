"""Steadiness, percentiles, intervals and paired ratios."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.clock import ratios
from bench.clock.contestant import Failure, Turn, is_steady
from bench.clock.rounds import Timed, steps_per_turn
from bench.clock.settings import ClockSettings
from bench.store.statuses import Status
from models.errors import SettingsError

times = st.floats(0.01, 1e4)


def timed(*rounds: tuple[list[float], float] | None) -> Timed:
    return Timed(rounds=[None if turn is None else Turn(*turn) for turn in rounds])


@given(st.lists(times, min_size=1, max_size=40))
def test_percentiles_are_numpys(values: list[float]) -> None:
    assert ratios.percentiles(values) == pytest.approx(tuple(np.percentile(values, [20, 50, 80])))


@settings(max_examples=20, deadline=None)
@given(st.lists(times, min_size=2, max_size=12))
def test_an_interval_holds_the_median_within_the_values_and_repeats_itself(values: list[float]) -> None:
    low, high = ratios.interval(values)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)
    assert ratios.interval(values) == (low, high)


def test_an_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    hits = sum(
        low <= 1 <= high for low, high in (ratios.interval(draws.normal(1, 0.1, 10).tolist()) for _ in range(80))
    )
    assert 0.87 <= hits / 80 <= 1.0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(times, st.floats(0.5, 100)), min_size=2, max_size=8), st.floats(0.1, 10))
def test_a_ratio_is_paired_so_a_machine_that_slows_down_leaves_it_alone(
    rounds: list[tuple[float, float]], factor: float
) -> None:
    own = timed(*[([factor * ms * slow] * 3, 0.0) for ms, slow in rounds])
    other = timed(*[([ms * slow] * 2, 0.0) for ms, slow in rounds])
    (row,) = ratios.rows("time_to_transformer_xl", own, other)
    assert (row.value, row.p20, row.p80) == pytest.approx((factor, factor, factor))
    assert (row.context["low"], row.context["high"]) == pytest.approx((factor, factor))
    assert (row.metric, row.unit, row.n, row.higher_is_better) == (
        "time_to_transformer_xl",
        "ratio",
        len(rounds),
        False,
    )


def test_only_rounds_that_both_have_are_paired() -> None:
    own = timed(([10.0], 1), None, ([30.0, 50.0], 1), ([7.0], 1))
    other = timed(([5.0], 1), ([1.0], 1), ([10.0], 1), None)
    (row,) = ratios.rows("ratio", own, other)
    assert (row.value, row.n) == (3.0, 2)  # 10 / 5 and the median of 30 and 50 over 10
    assert ratios.rows("ratio", timed(([1.0], 1), None), timed(None, ([1.0], 1))) == []
    (row,) = ratios.rows("ratio", timed(([3.0], 1)), timed(([2.0], 1)))
    assert (row.value, row.context["low"], row.context["high"]) == (1.5, None, None), "one round has no interval"


def test_the_trainers_overhead_is_of_wall_times_and_per_step() -> None:
    trainer = timed(([1.0, 1.0], 22.0), ([1.0, 1.0], 24.0))
    raw = timed(([1.0] * 4, 40.0), ([1.0] * 4, 40.0))
    (row,) = ratios.overhead_rows(trainer, raw)
    assert (row.metric, row.unit) == ("trainer_overhead", "share")
    assert (row.value, row.p20, row.p80) == pytest.approx((0.15, 0.12, 0.18))


def test_an_overhead_that_could_not_be_measured_is_missing_with_its_reason() -> None:
    trainer = timed(None)
    trainer.failure = Failure(Status.OOM, "out of memory")
    (row,) = ratios.overhead_rows(trainer, timed(([1.0], 1.0)))
    assert (row.value, row.context) == (None, {"reason": "out of memory"})


@given(st.floats(1e-4, 1e5), st.integers(1, 50), st.integers(1, 500), st.one_of(st.just(0.0), st.floats(0.001, 100)))
def test_all_rounds_together_have_the_steps_and_the_seconds(
    step_ms: float, rounds: int, steps: int, seconds: float
) -> None:
    asked = ClockSettings(rounds=rounds, steps=steps, seconds=seconds)
    each = steps_per_turn(step_ms, asked)
    assert each >= 1
    assert each * rounds >= steps
    assert each * rounds * max(step_ms, 1e-3) >= 1000 * seconds * (1 - 1e-9)
    fewer = each - 1
    too_short = fewer * rounds * max(step_ms, 1e-3) < 1000 * seconds * (1 + 1e-9)
    assert fewer == 0 or fewer * rounds < steps or too_short, "and no more than that"


@given(st.lists(times, max_size=9))
def test_nothing_is_steady_before_two_windows(samples: list[float]) -> None:
    assert not is_steady(samples)


@pytest.mark.parametrize(
    ("samples", "steady"),
    [
        ([10.0] * 10, True),
        ([1000.0, *[10.0] * 10], True),  # what was compiled at first is forgotten
        ([1000.0, *[10.0] * 9], True),  # one step that stands out does not move a median
        ([14.0] * 5 + [10.0] * 5, False),
        ([10.0] * 5 + [14.0] * 5, False),
        ([10.0] * 5 + [10.9] * 5, True),
        ([2.0**-number for number in range(20)], False),
    ],
)
def test_times_are_steady_where_medians_of_two_windows_agree(samples: list[float], steady: bool) -> None:
    assert is_steady(samples) == steady


@pytest.mark.parametrize(
    ("key", "value"),
    [("rounds", 0), ("steps", 0), ("warmup_steps", 0), ("seconds", -1.0), ("seconds", math.nan), ("seconds", math.inf)],
)
def test_settings_that_measure_nothing_are_refused_with_their_key(key: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"clock\.{key}"):
        ClockSettings(**{key: value})  # type: ignore[arg-type]
