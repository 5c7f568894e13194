"""What is added to the scores of slots that were chosen: b_i of each, and terms of the newest for each query.

A memory whose slots were chosen has gaps in time, so that its position terms stand in no band: where a slot is near
enough to have one, it is looked up before, [B, H, n, K], and added here, as b is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.kernels.bands import Chunk
from models.kernels.bias import Bias, BiasGradient
from models.kernels.rows import Group
from models.kernels.work import Lane, Work


class SlotScores(Bias):
    """b_i for every slot, the same for all queries and heads, and terms of the newest of memory's slots.

    Its tensors: for each (dense) source b [B, S], then the terms [B, H, n, K] of the last K slots of memory.

    Args:
        behind: slots that stand behind memory's: those of the open block.
    """

    def __init__(self, behind: int) -> None:
        self.behind = behind

    def add(self, tile: Tensor, work: Work, group: Group, lane: Lane, span: Chunk) -> None:
        by_row = tile.view(group.count, -1, *tile.shape[1:])  # [rows, heads, queries, width]
        *by_source, terms = work.of_bias
        level: Tensor = work.memo(group, "b", lambda: torch.cat([b[group.rows] for b in by_source], dim=1))
        for piece in span.pieces:
            by_row[..., piece.columns] += level[:, None, None, piece.keys]
        for columns, newest in self.newest(group, span, terms.shape[-1]):
            by_row[..., columns] += terms[group.rows, lane.heads, span.begin : span.end, newest]

    def newest(self, group: Group, span: Chunk, count: int) -> Iterator[tuple[slice, slice]]:
        """Where in a tile memory's last `count` slots stand, and which of them: pairs of slices."""
        end = group.columns - self.behind
        for piece in span.pieces:
            low, high = max(piece.keys.start, end - count), min(piece.keys.stop, end)
            if low < high:
                at = piece.at + low - piece.keys.start
                yield slice(at, at + high - low), slice(low - (end - count), high - (end - count))

    def gradient(self, work: Work) -> BiasGradient:
        return _SlotScoresGradient(self, work)


class _SlotScoresGradient(BiasGradient):
    def __init__(self, rule: SlotScores, work: Work) -> None:
        self.rule, self.work = rule, work
        self.total = [torch.zeros_like(x) for x in work.of_bias]

    def collect(self, slope: Tensor, group: Group, lane: Lane, span: Chunk) -> None:
        by_row = slope.view(group.count, -1, *slope.shape[1:])
        *by_source, terms = self.total
        summed = by_row.sum((1, 2))  # [rows, width]
        by_column = summed.new_zeros(group.count, group.columns)
        for piece in span.pieces:
            by_column[:, piece.keys] += summed[:, piece.columns]
        for b, columns in zip(by_source, self.work.rows.places(group), strict=True):
            b[group.rows] += by_column[:, columns]
        for columns, newest in self.rule.newest(group, span, terms.shape[-1]):
            terms[group.rows, lane.heads, span.begin : span.end, newest] += by_row[..., columns]

    def all(self) -> Sequence[Tensor]:
        return self.total
