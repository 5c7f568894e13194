"""Error rates: what is counted, and into which bin of distance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tasks.distance_bins import bin_ends, distance_bin
from tasks.error_rate import ErrorRate
from tasks.stream import StreamBatch


def batch(targets: list[int], weights: list[float], distance: list[int]) -> StreamBatch:
    return StreamBatch(
        inputs=torch.zeros(1, len(targets), dtype=torch.long),
        targets=torch.tensor([targets]),
        weights=torch.tensor([weights]),
        reset=torch.zeros(1, dtype=torch.bool),
        position={},
        distance=torch.tensor([distance]),
    )


def answers(*classes: int) -> Tensor:
    return one_hot(torch.tensor([classes]), 5).float()


def test_bins_are_powers_of_two_and_zero_stands_alone() -> None:
    distance = torch.tensor([0, 1, 2, 3, 4, 7, 8, 1023, 1024, 2047, 2048, 2**40])
    assert distance_bin(distance).tolist() == [0, 1, 2, 2, 3, 3, 4, 10, 11, 11, 12, 41]
    for value, number in zip(distance.tolist(), distance_bin(distance).tolist(), strict=True):
        low, high = bin_ends(number)
        assert low <= value <= high
    with pytest.raises(ValueError, match="no distance"):
        distance_bin(torch.tensor([8, -1]))


def test_only_positions_with_a_weight_count_and_each_in_its_bin() -> None:
    scorer = ErrorRate({"block_length": 4})
    scorer.add(batch([1, 2, 3, 0], [1, 1, 1, 0], [8, 1024, 2047, -1]), answers(1, 1, 3, 4), torch.empty(0))
    scorer.add(batch([4, 2, 2, 2], [1, 0, 1, 1], [0, 16, 1500, 2048]), answers(4, 1, 1, 1), torch.empty(0))
    total, chance, *by_distance = scorer.scores()
    assert (total.metric, total.unit, total.n, total.higher_is_better) == ("error", "%", 6, False)
    assert total.value == pytest.approx(50.0)
    assert (chance.metric, chance.unit, chance.n, chance.higher_is_better) == ("error_chance", "%", 6, False)
    assert chance.value == pytest.approx(50.0), "of the targets 1 2 3 4 2 2, half are 2"
    assert [s.metric for s in by_distance] == ["error_by_distance"] * 4 + ["error_chance_by_distance"] * 4
    by_distance, by_chance = by_distance[:4], by_distance[4:]
    found = {s.context["distance"]: (round(s.value, 3), s.n) for s in by_distance}
    assert found == {"0": (0.0, 1), "8-15": (0.0, 1), "1024-2047": (66.667, 3), "2048-4095": (100.0, 1)}
    assert by_distance[2].context["distance_min"] == 1024
    assert by_distance[2].context["distance_max"] == 2047
    assert by_distance[2].context["block_length"] == 4
    assert sum(s.n for s in by_distance) == total.n
    found = {s.context["distance"]: (round(s.value, 3), s.n) for s in by_chance}
    assert found == {"0": (100.0, 1), "8-15": (100.0, 1), "1024-2047": (33.333, 3), "2048-4095": (0.0, 1)}


def test_what_is_asked_about_the_same_place_again_has_one_source() -> None:
    scorer = ErrorRate({})
    scorer.add(batch([1, 1, 1, 1], [1, 1, 1, 1], [8, 9, 10, 8]), answers(1, 1, 1, 1), torch.empty(0))
    scorer.add(batch([1, 1, 1, 1], [1, 1, 0, 1], [12, 8, 9, 40]), answers(1, 1, 1, 1), torch.empty(0))
    two = batch([1, 1], [1, 1], [14, 14])
    scorer.add(two, answers(1, 1), torch.empty(0))
    by_distance = [s for s in scorer.scores() if s.metric == "error_by_distance"]
    # At tokens 0, 1, 2, 3, 4, 5, 7, 8, 9 about -8, -8, -8, -5, -8, -3, -33, -6, -5.
    assert [(s.context["distance"], s.n, s.context["sources"]) for s in by_distance] == [
        ("8-15", 8, 4),
        ("32-63", 1, 1),
    ]


def test_rows_ask_about_places_of_their_own() -> None:
    scorer = ErrorRate({})
    one = batch([1], [1], [8])
    both = {name: torch.cat([getattr(one, name)] * 2) for name in ("inputs", "targets", "weights", "reset", "distance")}
    scorer.add(StreamBatch(position={}, **both), torch.cat([answers(1)] * 2), torch.empty(0))
    assert [s.context.get("sources") for s in scorer.scores() if s.metric == "error_by_distance"] == [2]


def test_nothing_scored_is_an_error_and_not_a_number() -> None:
    with pytest.raises(RuntimeError, match="no position was scored"):
        ErrorRate({}).scores()
