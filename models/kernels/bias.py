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
    from models.kernels.rows import Group
    from models.kernels.work import Lane, Work


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
            (piece,) = span.pieces
            name = f"log m of {span.begin} to {span.end} and {piece.keys}"
            bias = work.memo(group, name, lambda: _log(x.clamp(max=1))[:, None])
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

        x: Tensor = work.memo(group, f"x of {span.begin} to {span.end} and {piece.keys}", now)
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
        (piece,) = span.pieces
        # d log m / d x = 1 / x on the ramp, its upper end included as in torch.clamp's gradient.
        inverse = self.work.memo(
            group,
            f"1 / x of {span.begin} to {span.end} and {piece.keys}",
            lambda: x.reciprocal().masked_fill_((x <= 0) | (x > 1), 0)[:, None],
        )
        by_slot = (slope.view(group.count, -1, *slope.shape[1:])[..., at:] * inverse).sum((1, 2))  # [rows, slots]
        by_column = by_slot.new_zeros(group.count, group.columns)
        by_column[:, piece.keys.start + at - piece.at : piece.keys.stop] = by_slot
        for number, columns in enumerate(self.work.rows.places(group)):
            self.work.rows.add(self.total[number], number, group, by_column[:, columns])

    def all(self) -> Sequence[Tensor]:
        return self.total


def _level(work: Work, group: Group) -> Tensor:
    """x of a group's columns [rows, columns]; below 0 where a row has no slot."""
    level = torch.cat([work.rows.taken(x, number, group) for number, x in enumerate(work.of_bias)], dim=1)
    missing = work.rows.missing(group)
    if missing is not None:
        level[:, : missing.shape[1]].masked_fill_(missing, -1)
    return level


def _first_below(level: Tensor, limit: float) -> int:
    """The first column in which any row is not above the limit; the number of columns if all are."""
    below = (level > limit).logical_not_().any(0).nonzero()  # what is no number is to be seen
    return int(below[0]) if len(below) else level.shape[1]


def _log(x: Tensor) -> Tensor:
    """log x, -inf from 0 down. Asked for the logarithm of 0 itself, the processor takes ten times as long."""
    return torch.where(x <= 0, -torch.inf, x.clamp(min=TINY).log_())


class HeadRamp(Bias):
    """log m of heads with a span each: m_h(d) = clamp((z_h L + 1 - d) / R + 1, 0, 1) at distance d.

    Its tensor: z [H]. Each lane has one band, as wide as the farthest of its heads sees. Where z L is whole, the first
    distance with m = 0 belongs to what a head sees: as in torch.clamp, z has a gradient from there.

    Args:
        longest: L.
        ramp: R.
    """

    def __init__(self, longest: int, ramp: int) -> None:
        self.longest, self.ramp = longest, ramp

    def add(self, tile: Tensor, work: Work, group: Group, lane: Lane, span: Chunk) -> None:
        x = self.far(work, group, lane)
        if x.shape[1]:
            name = f"log m of {lane.heads}"
            log_m = work.memo(group, name, lambda: torch.where(x < 0, -torch.inf, x.clamp(TINY, 1).log_()))
            _farthest(tile, lane, span, x.shape[1]).add_(log_m[:, None])

    def far(self, work: Work, group: Group, lane: Lane) -> Tensor:
        """(z L + 1 - d) / R + 1 of a lane's heads at the distances, farthest first, at which any has at most 1."""
        (ratio,), (band,) = work.of_bias, lane.bands

        def now() -> Tensor:
            assert band.width is not None
            distance = torch.arange(band.width, 0, -1, device=ratio.device)
            x = (ratio.detach()[lane.heads, None] * self.longest + 1 - distance) / self.ramp + 1
            return x[:, : int((x <= 1).sum(1).max())]

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
        if x.shape[1]:
            by_distance = _farthest(slope, lane, span, x.shape[1]).sum((0, 2))  # [heads, distances]
            inverse = x.clamp(min=TINY).reciprocal_().masked_fill_((x < 0) | (x > 1), 0)
            self.total[lane.heads] += (by_distance * inverse).sum(1) * (self.rule.longest / self.rule.ramp)

    def all(self) -> Sequence[Tensor]:
        return (self.total,)


def _farthest(tile: Tensor, lane: Lane, span: Chunk, count: int) -> Tensor:
    """The columns of the farthest keys that each query sees, [rows, heads, queries, count]."""
    (piece,) = span.pieces
    assert lane.bands[0].width is not None
    begin, heads = piece.first_hi - lane.bands[0].width, lane.heads.stop - lane.heads.start
    shape, by_head = (len(tile) // heads, heads, tile.shape[1], count), tile.stride(0)
    return tile.as_strided(shape, (heads * by_head, by_head, tile.stride(1) + 1, 1), tile.storage_offset() + begin)
