"""What is added to a score besides content and position: a rule per method, with its gradient.

A rule is told a tile of scores and adds to it in place; in the backward it is told the gradient of the same tile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from models.kernels.bands import Chunk
    from models.kernels.work import Group, Lane, Work


TINY = 1e-30
"""Stands for a factor m of 0 whose slope is wanted: nothing is left of the weight, and weight / m is."""


class Bias(ABC):
    """A rule. It holds no tensors: those that it depends on are given to `attend`, and reach it as `work.of_bias`."""

    hides_padding = False
    """Whether columns that a row does not have get -inf from the rule itself."""

    @abstractmethod
    def add(self, tile: Tensor, work: Work, group: Group, lane: Lane, span: Chunk) -> None:
        """Adds to the scores of a tile."""

    @abstractmethod
    def gradient(self, work: Work) -> BiasGradient:
        """What collects the gradient of the rule's tensors."""


class BiasGradient(ABC):
    """The gradient of a rule's tensors, as it adds up."""

    @abstractmethod
    def collect(self, slope: Tensor, group: Group, lane: Lane, span: Chunk) -> None:
        """Adds what follows from the gradient of a tile's scores."""

    @abstractmethod
    def all(self) -> Sequence[Tensor]:
        """One gradient per tensor."""


class SlotRamp(Bias):
    """log m of memories that expire each at its own time: m_ti = clamp(x_i - t / R, 0, 1).

    Its tensors: for each source x [B, S] (ragged: [sum of lengths]), what 1 + r_ti / R is for the call's first query.
    A row's slots that are wholly there for all queries should come first: the rule passes over them.

    Args:
        ramp: R.
    """

    hides_padding = True

    def __init__(self, ramp: int) -> None:
        self.ramp = ramp

    def add(self, tile: Tensor, work: Work, group: Group, lane: Lane, span: Chunk) -> None:
        at, x = self.left(work, group, span)
        if x.shape[-1]:
            bias = work.memo(group, f"log m from {span.begin}", lambda: x.clamp(0, 1).log_()[:, None])
            tile.view(group.count, -1, *tile.shape[1:])[..., at:].add_(bias)

    def left(self, work: Work, group: Group, span: Chunk) -> tuple[int, Tensor]:
        """Where in a tile slots begin that are not wholly there, and x_i - t / R of those [rows, queries, slots].

        Made once for all heads of a chunk.
        """
        level: Tensor = work.memo(group, "level", lambda: _level(work, group))
        begin: int = work.memo(group, "begin", lambda: _first_below(level, 1 + (work.n - 1) / self.ramp))
        (piece,) = span.pieces
        first = min(max(begin, piece.keys.start), piece.keys.stop)

        def now() -> Tensor:
            steps = torch.arange(span.begin, span.end, device=level.device, dtype=level.dtype).div_(self.ramp)
            return level[:, None, first : piece.keys.stop] - steps[:, None]

        x: Tensor = work.memo(group, f"x from {span.begin}", now)
        at: int = piece.at + first - piece.keys.start
        return at, x

    def gradient(self, work: Work) -> BiasGradient:
        return _SlotRampGradient(self, work)


class _SlotRampGradient(BiasGradient):
    def __init__(self, rule: SlotRamp, work: Work) -> None:
        self.rule, self.work = rule, work
        self.total = [torch.zeros_like(x) for x in work.of_bias]

    def collect(self, slope: Tensor, group: Group, lane: Lane, span: Chunk) -> None:
        at, x = self.rule.left(self.work, group, span)
        if not x.shape[-1]:
            return
        # d log m / d x = 1 / x on the ramp, its upper end included as in torch.clamp's gradient.
        inverse = self.work.memo(
            group, f"1 / x from {span.begin}", lambda: x.reciprocal().masked_fill_((x <= 0) | (x > 1), 0)[:, None]
        )
        by_slot = (slope.view(group.count, -1, *slope.shape[1:])[..., at:] * inverse).sum((1, 2))  # [rows, slots]
        (piece,) = span.pieces
        first = piece.keys.start + at - piece.at
        for number, rows, columns, where in self.work.stretches(group):
            begin, end = max(columns.start, first), min(columns.stop, piece.keys.stop)
            if begin < end:
                into = self.work.part(number, self.total[number], where)
                into[:, begin - columns.start : end - columns.start] += by_slot[rows, begin - first : end - first]

    def all(self) -> Sequence[Tensor]:
        return self.total


def _level(work: Work, group: Group) -> Tensor:
    """x of a group's columns [rows, columns]; below 0 where a row has no slot."""
    level = work.of_bias[0].new_full((group.count, group.columns), -1.0)
    for number, rows, columns, where in work.stretches(group):
        level[rows, columns] = work.part(number, work.of_bias[number], where)
    return level


def _first_below(level: Tensor, limit: float) -> int:
    """The first column in which any row is not above the limit; the number of columns if all are."""
    below = (level <= limit).any(0).nonzero()
    return int(below[0]) if len(below) else level.shape[1]


class HeadRamp(Bias):
    """log m of heads with a span each: m_h(d) = clamp((z_h L + 1 - d) / R + 1, 0, 1) at distance d.

    Its tensor: z [H]. Each head is a lane of its own, with one band that is as wide as the head sees. Where z L is
    whole, the first distance with m = 0 belongs to it: as in torch.clamp, z has a gradient from there.

    Args:
        longest: L.
        ramp: R.
    """

    def __init__(self, longest: int, ramp: int) -> None:
        self.longest, self.ramp = longest, ramp

    def add(self, tile: Tensor, work: Work, group: Group, lane: Lane, span: Chunk) -> None:
        x = self.far(work, group, lane)
        if len(x):
            _farthest(tile, lane, span, len(x)).add_(work.memo(group, f"log m of {lane.heads}", x.log))

    def far(self, work: Work, group: Group, lane: Lane) -> Tensor:
        """(z L + 1 - d) / R + 1 of the distances, farthest first, at which it is at most 1; TINY for 0."""
        (ratio,), (band,), head = work.of_bias, lane.bands, lane.heads.start
        assert lane.heads.stop == head + 1

        def now() -> Tensor:
            assert band.width is not None
            distance = torch.arange(band.width, 0, -1, device=ratio.device)
            x = (ratio.detach()[head] * self.longest + 1 - distance) / self.ramp + 1
            return x[: int((x <= 1).sum())].clamp_(min=TINY)

        x: Tensor = work.memo(group, f"x of {lane.heads}", now)
        return x

    def gradient(self, work: Work) -> BiasGradient:
        return _HeadRampGradient(self, work)


class _HeadRampGradient(BiasGradient):
    def __init__(self, rule: HeadRamp, work: Work) -> None:
        self.rule, self.work = rule, work
        self.total = torch.zeros_like(work.of_bias[0])

    def collect(self, slope: Tensor, group: Group, lane: Lane, span: Chunk) -> None:
        x = self.rule.far(self.work, group, lane)
        if len(x):
            by_distance = _farthest(slope, lane, span, len(x)).sum((0, 1))
            self.total[lane.heads.start] += (by_distance / x).sum() * self.rule.longest / self.rule.ramp

    def all(self) -> Sequence[Tensor]:
        return (self.total,)


def _farthest(tile: Tensor, lane: Lane, span: Chunk, count: int) -> Tensor:
    """The columns of the farthest keys that each query sees, [rows, queries, count]."""
    (piece,) = span.pieces
    assert lane.bands[0].width is not None
    begin = piece.first_hi - lane.bands[0].width
    shape = (len(tile), tile.shape[1], count)
    return tile.as_strided(shape, (tile.stride(0), tile.stride(1) + 1, 1), tile.storage_offset() + begin)
