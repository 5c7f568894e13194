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
@given(st.lists(times, min_size=6, max_size=12))
def test_an_interval_holds_the_median_within_the_values_and_repeats_itself(values: list[float]) -> None:
    found = ratios.interval(values)
    assert found is not None
    low, high = found
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)
    assert ratios.interval(values) == (low, high)


@pytest.mark.parametrize("rounds", [6, 10])
def test_an_interval_covers_the_true_median_about_as_often_as_it_says(rounds: int) -> None:
    draws = np.random.default_rng(0)
    found = [ratios.interval(draws.normal(1, 0.1, rounds).tolist()) for _ in range(100)]
    hits = sum(each is not None and each[0] <= 1 <= each[1] for each in found)
    assert 0.87 <= hits / 100 <= 1.0


@pytest.mark.parametrize(("rounds", "has_one"), [(1, False), (2, False), (5, False), (6, True)])
def test_a_ratio_of_few_rounds_has_no_interval_and_says_why(rounds: int, has_one: bool) -> None:
    own, other = (timed(*[([ms], ms)] * rounds) for ms in (3.0, 2.0))
    for row in (*ratios.rows("time_to_transformer_xl", own, other), *ratios.overhead_rows(own, other)):
        assert (row.n, row.p20, row.p80) == (rounds, row.value, row.value)
        assert (row.context["low"], row.context["high"]) == ((row.value, row.value) if has_one else (None, None))
        assert row.context["interval"] == ("95 % bootstrap over rounds" if has_one else "none: fewer than 6 rounds")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(times, st.floats(0.5, 100)), min_size=6, max_size=8), st.floats(0.1, 10))
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
