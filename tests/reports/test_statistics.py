"""Intervals and corrections against values computed by hand or by scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from reports.statistics import holm, mean_interval, over_rounds, paired_difference


def test_three_seeds_have_students_interval_and_two_have_none() -> None:
    mean = mean_interval([1.0, 2.0, 3.0])
    low, high = stats.t.interval(0.95, 2, loc=2.0, scale=stats.sem([1.0, 2.0, 3.0]))
    assert (mean.value, mean.n) == (2.0, 3)
    assert mean.half == pytest.approx((high - low) / 2)
    assert mean_interval([1.0, 2.0]).half is None


def test_differences_are_paired_by_seed_and_use_only_seeds_that_both_have() -> None:
    difference = paired_difference({0: 1.0, 1: 2.0, 2: 3.5, 7: 99.0}, {2: 3.0, 1: 1.5, 0: 0.6})
    assert difference is not None
    assert difference.mean.value == pytest.approx((0.4 + 0.5 + 0.5) / 3)
    assert difference.p == pytest.approx(stats.ttest_rel([1.0, 2.0, 3.5], [0.6, 1.5, 3.0]).pvalue)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_holm_corrects_step_by_step_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("rounds", "said", "why"),
    [
        ([10, 10], "median [95 % bootstrap interval over 10 rounds]", False),
        ([6, 10], "median [95 % bootstrap interval over 6 to 10 rounds]", False),
        ([4, 4], "median over 4 rounds.", True),
        ([2, 10], "median [95 % bootstrap interval] over 2 to 10 rounds.", True),
        ([], "median [95 % bootstrap interval over rounds]", False),
    ],
)
def test_an_interval_is_named_where_there_is_one_and_its_lack_explained(
    rounds: list[int], said: str, why: bool
) -> None:
    text = over_rounds(rounds)
    assert text.startswith(said)
    assert ("Below 6 rounds there is no interval" in text) == why
