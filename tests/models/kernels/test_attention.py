"""The attention that stores no scores, against the same attention written score by score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from models.kernels import work
from models.kernels.attention import attend, attend_projected
from models.kernels.bands import Band
from models.kernels.bias import HeadRamp, SlotRamp
from models.kernels.work import Lane

B, H, N, D, E = 3, 2, 7, 5, 6
ALL = slice(0, H)


def drawn(*shape: int, grad: bool = True) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def naive(
    query: Tensor,
    rows: Sequence[Tensor],
    key_weight: Tensor,
    value_weight: Tensor,
    lanes: Sequence[Lane],
    positions: Sequence[Tensor | None],
    asking: Tensor | None = None,
    bias: Callable[[int, int, int, int, int], Tensor | float] = lambda row, head, t, column, columns: 0.0,
) -> Tensor:
    """Each score by itself: rows are the hidden states of each row, the block's among them, [S + n, E]."""
    asking = query if asking is None else asking
    y = []
    for row, states in enumerate(rows):
        columns = len(states)
        key, value = (states @ weight.T for weight in (key_weight, value_weight))
        heads = []
        for head in range(H):
            own = slice(head * D, (head + 1) * D)
            (bands,) = [lane.bands for lane in lanes if lane.heads.start <= head < lane.heads.stop]
            outputs = []
            for t in range(N):
                scores, columns_seen = [], []
                for band, p in zip(bands, positions, strict=True):
                    end = columns - band.behind - band.lag + (band.begun + t) // band.rate
                    first = 0 if band.size is None else columns - band.behind - band.size
                    for column in range(max(first, end - band.width) if band.width is not None else first, end):
                        score = query[row, head, t] @ key[column, own]
                        vectors = None if p is None else p if p.dim() == 2 else p[head]
                        if vectors is not None and end - column <= vectors.shape[1]:
                            score = score + asking[row, head, t] @ vectors[:, vectors.shape[1] - (end - column)]
                        scores.append(score / math.sqrt(D) + bias(row, head, t, column, columns))
                        columns_seen.append(column)
                if all(bool(score.isinf()) for score in scores):
                    outputs.append(torch.zeros(D, dtype=torch.float64))
                else:
                    outputs.append(torch.stack(scores).softmax(0) @ value[columns_seen, own])
            heads.append(torch.stack(outputs))
        y.append(torch.stack(heads, dim=1).flatten(1))
    return torch.stack(y)


def compare(fast: Callable[[], Tensor], slow: Callable[[], Tensor], *inputs: Tensor | None) -> None:
    learned = [x for x in inputs if x is not None and x.requires_grad]
    found, expected = fast(), slow()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, learned, weights), torch.autograd.grad(expected, learned, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(
    params=[1 << 18, pytest.param(150, marks=pytest.mark.slow), 1],
    ids=["one tile", "tiles of both heads", "tiles of a head"],
)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "TILE", request.param)
    monkeypatch.setattr(work, "FEWEST", 3)


WINDOWS = [
    pytest.param(slots, count, width, own, id=f"{slots} slots, {count} positions, width {width}{', itself' * own}")
    for slots, (count, width), own in itertools.product(
        (0, 4, 11), ((0, None), (4, None), (30, None), (4, 4), (4, 6), (13, 13)), (False, True)
    )
    if slots or own or width is None
]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("slots", "count", "width", "own"), WINDOWS)
def test_windows(slots: int, count: int, width: int | None, own: bool) -> None:
    asked = drawn(B, N, H, D)  # as a projection gives it, so that the heads' queries do not stand side by side
    query, memory, block = asked.transpose(1, 2), drawn(B, slots, E, grad=False), drawn(B, N, E)
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(D, count) if count else None]
    lanes = [Lane(ALL, (Band(lag=N - own, width=width),))]
    compare(
        lambda: attend(query, [memory, block], *weights, lanes, positions),
        lambda: naive(query, list(torch.cat([memory, block], dim=1)), *weights, lanes, positions),
        *(asked, block, *weights, *positions),
    )


@pytest.mark.usefixtures("tiles")
def test_positions_per_head_asked_for_by_another_query_and_a_memory_that_has_a_gradient() -> None:
    query, asking, memory, block = drawn(B, H, N, D), drawn(B, H, N, D), drawn(B, 6, E), drawn(B, N, E)
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(H, D, 6 + N)]
    lanes = [Lane(ALL, (Band(lag=N - 1),))]
    compare(
        lambda: attend(query, [memory, block], *weights, lanes, positions, asking=asking),
        lambda: naive(query, list(torch.cat([memory, block], dim=1)), *weights, lanes, positions, asking),
        *(query, asking, memory, block, *weights, *positions),
    )


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("rate", "begun"), [(1, 0), (3, 0), (3, 2), (4, 7)])
def test_pooled_slots_beside_a_window(rate: int, begun: int) -> None:
    width, recent = 4, 5
    pooled = width + (begun + N) // rate
    query, slots, memory, block = (
        drawn(B, H, N, D),
        drawn(B, pooled, E),
        drawn(B, recent, E, grad=False),
        drawn(B, N, E),
    )
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(D, width), drawn(D, recent)]
    lag = pooled - width
    bands = (
        Band(lag=lag, width=width, size=pooled, behind=recent + N, rate=rate, begun=begun),
        Band(lag=N, width=recent, size=recent + N),
    )
    lanes = [Lane(ALL, bands)]
    compare(
        lambda: attend(query, [slots, memory, block], *weights, lanes, positions),
        lambda: naive(query, list(torch.cat([slots, memory, block], dim=1)), *weights, lanes, positions),
        *(query, slots, block, *weights, *positions),
    )


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("lengths", [(9, 2, 0), (4, 4, 4), (0, 0, 0)])
@pytest.mark.parametrize("width", [None, 6])
def test_rows_of_different_lengths(lengths: tuple[int, ...], width: int | None) -> None:
    query, memory, block = drawn(B, H, N, D), drawn(sum(lengths), E), drawn(B, N, E)
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(D, 5)]
    lanes = [Lane(ALL, (Band(lag=N, width=width),))]

    def rows() -> list[Tensor]:
        return [torch.cat(parts) for parts in zip(torch.split(memory, list(lengths)), block, strict=True)]

    compare(
        lambda: attend(query, [memory, block], *weights, lanes, positions, lengths=[lengths, None]),
        lambda: naive(query, rows(), *weights, lanes, positions),
        *(query, memory, block, *weights, *positions),
    )
    with torch.no_grad():
        ragged = torch.cat(rows())
        projected = [ragged @ weight.T for weight in weights]
        together = tuple(length + N for length in lengths)
        found = attend_projected(query, projected[0], projected[1], lanes, positions, lengths=together)
        torch.testing.assert_close(found, naive(query, rows(), *weights, lanes, positions), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("lengths", [(9, 2, 0), (6, 6, 6)])
def test_slots_that_expire(lengths: tuple[int, ...]) -> None:
    ramp = 4
    query, memory, block = drawn(B, H, N, D), drawn(sum(lengths), E, grad=False), drawn(B, N, E)
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(D, 3)]
    # Some are gone, some on the ramp, some whole; one exactly at its upper end.
    level = (torch.rand(sum(lengths), dtype=torch.float64) * 4 - 0.5).requires_grad_()
    own = (torch.rand(B, N, dtype=torch.float64) * 3).requires_grad_()
    with torch.no_grad():
        level[0] = 1.0
    lanes = [Lane(ALL, (Band(lag=N),))]

    def rows() -> list[Tensor]:
        return [torch.cat(parts) for parts in zip(torch.split(memory, list(lengths)), block, strict=True)]

    def bias(row: int, head: int, t: int, column: int, columns: int) -> Tensor:
        x = torch.cat([torch.split(level, list(lengths))[row], own[row]])[column]
        m = (x - t / ramp).clamp(0, 1)
        return m.log() if m > 0 else torch.tensor(-math.inf, dtype=torch.float64)

    more: dict[str, Any] = {"lengths": [lengths, None], "bias": SlotRamp(ramp), "of_bias": [level, own]}
    compare(
        lambda: attend(query, [memory, block], *weights, lanes, positions, **more),
        lambda: naive(query, rows(), *weights, lanes, positions, bias=bias),
        *(query, block, *weights, *positions, level, own),
    )


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("apart", [True, False], ids=["a lane each", "one lane"])
def test_heads_with_a_span_each(apart: bool) -> None:
    longest, ramp, slots = 11, 3, 11
    ratio = torch.tensor([0.21, 0.63], dtype=torch.float64, requires_grad=True)
    query, memory, block = drawn(B, H, N, D), drawn(B, slots, E, grad=False), drawn(B, N, E)
    weights, positions = (drawn(H * D, E), drawn(H * D, E)), [drawn(D, longest)]
    widths = [min(longest, math.ceil(z * longest + ramp)) for z in ratio.tolist()]
    lanes = [Lane(ALL, (Band(lag=N, width=max(widths)),))]
    if apart:
        lanes = [Lane(slice(head, head + 1), (Band(lag=N, width=width),)) for head, width in enumerate(widths)]

    def bias(row: int, head: int, t: int, column: int, columns: int) -> Tensor:
        distance = columns - N + t - column
        m = ((ratio[head] * longest + 1 - distance) / ramp + 1).clamp(0, 1)
        return m.log() if m > 0 else torch.tensor(-math.inf, dtype=torch.float64)

    more: dict[str, Any] = {"bias": HeadRamp(longest, ramp), "of_bias": [ratio]}
    compare(
        lambda: attend(query, [memory, block], *weights, lanes, positions, **more),
        lambda: naive(query, list(torch.cat([memory, block], dim=1)), *weights, lanes, positions, bias=bias),
        *(query, block, *weights, *positions, ratio),
    )


def test_a_query_that_sees_no_key_gets_zero_and_gives_no_gradient() -> None:
    query, block = drawn(1, H, N, D), drawn(1, N, E)
    weights = (drawn(H * D, E), drawn(H * D, E))
    y = attend(query, [block], *weights, [Lane(ALL, (Band(lag=N),))], [None])
    (slope,) = torch.autograd.grad(y.sum(), query)
    assert not y[:, 0].any()
    assert y[:, 1:].all()
    assert not slope[:, :, 0].any()


def test_what_is_not_a_number_is_not_taken_for_a_query_that_sees_no_key() -> None:
    query, block = drawn(1, H, N, D, grad=False), drawn(1, N, E)
    query[0, 1, 3, 2] = math.nan
    y = attend(query, [block], drawn(H * D, E), drawn(H * D, E), [Lane(ALL, (Band(lag=N),))], [None])
    assert y[0, 3, D:].isnan().all()
    assert int(y.isnan().sum()) == D


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("expiring", [False, True])
def test_what_is_not_a_number_in_one_row_stays_there(expiring: bool) -> None:
    lengths, ramp = (5, 1, 3), 4
    query, block = drawn(B, H, N, D), drawn(B, N, E)
    weights, lanes = (drawn(H * D, E), drawn(H * D, E)), [Lane(ALL, (Band(lag=N),))]
    level, own = drawn(sum(lengths)), drawn(B, N)
    more: dict[str, Any] = {"bias": SlotRamp(ramp), "of_bias": [level, own]} if expiring else {}
    memory = torch.randn(sum(lengths), E, dtype=torch.float64)
    broken = memory.clone()
    broken[5] = math.nan  # the one slot of row 1
    found = []
    for states in (memory, broken):
        y = attend(query, [states, block], *weights, lanes, [None], lengths=[lengths, None], **more)
        (slope,) = torch.autograd.grad(y[[0, 2]].sum(), query)
        together = torch.cat(
            [torch.cat(parts) for parts in zip(torch.split(states, list(lengths)), block, strict=True)]
        )
        if expiring:
            levels = zip(torch.split(level, list(lengths)), own, strict=True)
            more["of_bias"] = [torch.cat([torch.cat(parts) for parts in levels])]
        projected = [together @ weight.T for weight in weights]
        cached = attend_projected(
            query, projected[0], projected[1], lanes, [None], lengths=tuple(count + N for count in lengths), **more
        )
        if expiring:
            more["of_bias"] = [level, own]
        found.append((y[[0, 2]], slope[[0, 2]], cached[[0, 2]]))
        assert bool(y[1].isnan().any()) == bool(cached[1].isnan().any()) == (states is broken)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_span_that_is_no_number_is_seen() -> None:
    query, block, memory = drawn(1, H, N, D), drawn(1, N, E), drawn(4, E)
    level = torch.full((4,), 9.0, dtype=torch.float64)
    level[2] = math.nan
    more: dict[str, Any] = {"bias": SlotRamp(4), "of_bias": [level, torch.full((1, N), 9.0, dtype=torch.float64)]}
    lanes = [Lane(ALL, (Band(lag=N),))]
    weights = (drawn(H * D, E), drawn(H * D, E))
    assert attend(query, [memory, block], *weights, lanes, [None], lengths=[(4,), None], **more).isnan().all()


def test_the_first_source_alone_may_be_ragged() -> None:
    query, block, weight = drawn(1, H, N, D), drawn(1, N, E), drawn(H * D, E)
    with pytest.raises(ValueError, match="only the first source may be ragged"):
        attend(query, [block, block[0]], weight, weight, [Lane(ALL, (Band(lag=N),))], [None], lengths=[None, (N,)])


def test_a_lane_has_all_heads_or_one() -> None:
    query, block, weight = drawn(1, 3, N, D), drawn(1, N, E), drawn(3 * D, E)
    lanes = [Lane(slice(0, 2), (Band(lag=N),)), Lane(slice(2, 3), (Band(lag=N),))]
    with pytest.raises(ValueError, match="all 3 heads or one"):
        attend(query, [block], weight, weight, lanes, [None])


def test_half_precision_inputs_are_computed_in_the_weights_precision() -> None:
    query, block = torch.randn(1, H, N, D), torch.randn(1, N, E)
    weights = (torch.randn(H * D, E), torch.randn(H * D, E))
    lanes = [Lane(ALL, (Band(lag=N - 1),))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = attend(query.bfloat16(), [block.bfloat16()], *weights, lanes, [None])
    assert y.dtype == torch.float32
    exact = attend(query.bfloat16().float(), [block.bfloat16().float()], *weights, lanes, [None])
    torch.testing.assert_close(y, exact, rtol=0, atol=1e-6)
