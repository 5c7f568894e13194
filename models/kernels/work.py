"""What the attention's forward and backward share: what is computed at once, and the scores of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.kernels import skew
from models.kernels.bands import Band, Chunk, chunk
from models.kernels.bias import Bias

TILE = 1 << 18
"""Scores in a tile, at most (float32: 1 MB), unless a few queries alone have more keys."""
FEWEST = 32
"""Queries in a chunk, at least, where the block has as many: fewer make narrow, slow products."""


@dataclass(frozen=True)
class Lane:
    """Heads that see the same keys.

    Args:
        heads: which.
        bands: what their queries see.
    """

    heads: slice
    bands: tuple[Band, ...]


@dataclass
class Plan:
    """What does not depend on values that have a gradient."""

    heads: int
    lanes: tuple[Lane, ...]
    lengths: tuple[tuple[int, ...] | None, ...]
    """For each source: slots of each row where it is ragged."""
    sources: int
    scale: float
    dropout: float
    seed: int
    learns: bool
    """Whether a backward may follow."""
    bias: Bias | None
    chunks: dict[tuple[int, int, int], list[Chunk]] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Rows that are computed at once: `first` to `last` (exclusive), with `columns` keys each, padded on the left."""

    first: int
    last: int
    columns: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.last)

    @property
    def count(self) -> int:
        return self.last - self.first


class Work:
    """The groups, their keys and values, and the scores of a tile."""

    def __init__(
        self,
        plan: Plan,
        query: Tensor,
        asking: Tensor | None,
        positions: Sequence[Tensor | None],
        sources: Sequence[Tensor],
        of_bias: Sequence[Tensor],
        *,
        weights: tuple[Tensor, Tensor] | None = None,
        values: Tensor | None = None,
    ) -> None:
        self.plan = plan
        self.batch, _, self.n, self.head_dim = query.shape
        self.query = (query * plan.scale).contiguous()
        self.asking = self.query if asking is None else (asking * plan.scale).contiguous()
        self.apart = asking is not None
        self.positions, self.sources, self.of_bias = positions, sources, of_bias
        self.weights, self.values = weights, values
        self._tile = self._slope = query.new_empty(0)
        self._memo: dict[tuple[Group, str], Any] = {}

    def memo(self, group: Group, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once per group."""
        if (group, name) not in self._memo:
            self._memo = {key: value for key, value in self._memo.items() if key[0] == group}
            self._memo[group, name] = make()
        return self._memo[group, name]

    def groups(self) -> Iterator[Group]:
        """The batch's rows, as many at a time as fit a tile."""
        columns = [0] * self.batch
        for source, lengths in zip(self.sources, self.plan.lengths, strict=True):
            for row in range(self.batch):
                columns[row] += source.shape[1] if lengths is None else lengths[row]
        if self.values is not None:  # they are read where they stand, which one row at a time can be
            yield from (Group(row, row + 1, columns[row]) for row in range(self.batch))
            return
        first, most = 0, columns[0]
        for row in range(1, self.batch + 1):
            wider = max(most, columns[row]) if row < self.batch else 0
            if row == self.batch or (row + 1 - first) * self.plan.heads * self.n * wider > TILE:
                yield Group(first, row, most)
                first, wider = row, columns[row] if row < self.batch else 0
            most = wider

    def stretches(self, group: Group) -> Iterator[tuple[int, slice, slice, slice]]:
        """Where the sources' slots stand: source, rows of the group, columns, and the rows of the source's tensor."""
        end = group.columns
        for number in reversed(range(len(self.sources))):
            lengths = self.plan.lengths[number]
            if lengths is None:
                begin = end - self.sources[number].shape[1]
                yield number, slice(0, group.count), slice(begin, end), group.rows
                end = begin
                continue
            assert number == 0, "only the first source may be ragged"
            start = sum(lengths[: group.first])
            for row, count in enumerate(lengths[group.rows]):
                yield number, slice(row, row + 1), slice(end - count, end), slice(start, start + count)
                start += count

    def part(self, number: int, x: Tensor, where: slice) -> Tensor:
        """What `stretches` names of a tensor with a source's rows and slots: [rows, slots, ...]."""
        return x[where] if self.plan.lengths[number] is None else x[where][None]

    def states(self, group: Group) -> Iterator[tuple[slice, Tensor]]:
        """The hidden states of a group, source by source: columns, and states [rows, columns, E]; 0 for padding."""
        ragged = self.plan.lengths[0] is not None and group.count > 1
        if ragged:
            behind = sum(source.shape[1] for source in self.sources[1:])
            padded = self.sources[0].new_zeros(group.count, group.columns - behind, self.sources[0].shape[-1])
        for number, rows, columns, where in self.stretches(group):
            if ragged and number == 0:
                padded[rows, columns] = self.part(0, self.sources[0], where)
            else:
                yield columns, self.part(number, self.sources[number], where)
        if ragged:
            yield slice(0, padded.shape[1]), padded

    def projected(self, group: Group) -> tuple[Tensor, Tensor]:
        """Keys and values of a group, [rows * H, D, columns] each."""
        if self.weights is None:
            assert self.values is not None
            return self._by_head(self.sources[0], group), self._by_head(self.values, group)
        key, value = (self.query.new_empty(group.count, len(weight), group.columns) for weight in self.weights)
        for columns, states in self.states(group):
            for out, weight in zip((key, value), self.weights, strict=True):
                out[:, :, columns].baddbmm_(weight.expand(group.count, -1, -1), states.mT, beta=0)
        shape = (group.count * self.plan.heads, self.head_dim, group.columns)
        return key.view(shape), value.view(shape)

    def _by_head(self, x: Tensor, group: Group) -> Tensor:
        """Keys or values of a row that were given, slot by slot."""
        ((_, _, _, where),) = self.stretches(group)
        row = self.part(0, x, where)[0].to(self.query.dtype)
        return row.view(group.columns, self.plan.heads, self.head_dim).permute(1, 2, 0)

    def spans(self, group: Group) -> Iterator[tuple[Lane, Chunk]]:
        """The lanes of a group, split further where a tile would be too large, and the chunks of their queries."""
        positions = tuple(0 if p is None else p.shape[-1] for p in self.positions)
        for number, lane in enumerate(self.plan.lanes):
            heads = lane.heads.stop - lane.heads.start
            widest = sum(min(group.columns, (band.width or group.columns) + self.n) for band in lane.bands)
            step, queries = heads, self.n
            if group.count == 1 and heads * self.n * widest > TILE:
                queries = min(self.n, max(FEWEST, TILE // widest // 16 * 16))
                step = min(heads, max(1, TILE // (queries * widest)))
            key = (number, group.columns, queries)
            if key not in self.plan.chunks:
                self.plan.chunks[key] = [
                    chunk(lane.bands, positions, group.columns, begin, min(begin + queries, self.n))
                    for begin in range(0, self.n, queries)
                ]
            # Heads outside, so that a head's keys and values stay in the cache for all chunks of its queries.
            for head in range(lane.heads.start, lane.heads.stop, step):
                part = Lane(slice(head, min(head + step, lane.heads.stop)), lane.bands)
                for span in self.plan.chunks[key]:
                    yield part, span

    def of_lane(self, x: Tensor, group: Group, lane: Lane, span: Chunk) -> Tensor:
        """The part of x [B, H, n, ...] that a tile's rows are made of: [rows * heads, queries, ...]."""
        return x[group.rows, lane.heads, span.begin : span.end].flatten(0, 1)

    def keys_of(self, x: Tensor, lane: Lane, columns: slice) -> Tensor:
        """The part of a group's keys or values [rows * H, D, columns] that a lane reads."""
        if lane.heads.stop - lane.heads.start == self.plan.heads:
            return x[:, :, columns]
        if len(x) == self.plan.heads:
            return x[lane.heads, :, columns]
        assert lane.heads.stop - lane.heads.start == 1, "rows and several of the heads are no stretch of memory"
        return x[lane.heads.start :: self.plan.heads, :, columns]

    def scores(self, group: Group, lane: Lane, span: Chunk, key: Tensor) -> Tensor:
        """The scores of a tile, [rows * heads, queries, width]; -inf where a query does not see."""
        query = self.of_lane(self.query, group, lane, span)
        asking = self.of_lane(self.asking, group, lane, span) if self.apart else query
        self._tile = tile = buffer(self._tile, len(query), query.shape[1], span.width)
        for columns, keys in span.runs:
            tile[:, :, columns].baddbmm_(query, self.keys_of(key, lane, keys), beta=0)
        for number, piece in enumerate(span.pieces):
            if piece.pad:
                tile[:, :, piece.at - piece.pad : piece.at] = 0
            p = self.vectors(piece.band, lane, group)
            if p is not None:
                skew.add_terms(tile, asking, p, lane.bands[piece.band].rate, piece)
            if piece.pad:
                tile[:, :, piece.at - piece.pad : piece.at] = -torch.inf
            left, right = span.edges(number, tile.device)
            if left is not None:
                tile[:, :, piece.at : piece.at + left.shape[1]].masked_fill_(left, -torch.inf)
            if right is not None:
                tile[:, :, piece.first_hi : piece.first_hi + right.shape[1]].masked_fill_(right, -torch.inf)
        self.hide_padding(tile, group, span)
        if self.plan.bias is not None:
            self.plan.bias.add(tile, self, group, lane, span)
        return tile

    def hide_padding(self, tile: Tensor, group: Group, span: Chunk) -> None:
        """Hides the columns that a row of a ragged group does not have."""
        lengths = self.plan.lengths[0]
        if lengths is None or group.count == 1 or (self.plan.bias is not None and self.plan.bias.hides_padding):
            return
        here = lengths[group.rows]
        if min(here) == max(here):
            return
        (piece,) = span.pieces
        rows = tile.view(group.count, -1, *tile.shape[1:])
        for row, length in enumerate(here):
            missing = max(here) - length - piece.keys.start
            if missing > 0:
                rows[row, :, :, piece.at : piece.at + missing] = -torch.inf

    def vectors(self, band: int, lane: Lane, group: Group) -> Tensor | None:
        """A band's position vectors: [D, P] if they are all heads', else those of a tile [rows * heads, D, P]."""
        p = self.positions[band]
        if p is None or p.dim() == 2:
            return p
        return p[lane.heads] if group.count == 1 else p[lane.heads].repeat(group.count, 1, 1)

    def kept(self, group: Group, lane: Lane, span: Chunk) -> Tensor | None:
        """The factor of each weight under dropout, the same in forward and backward."""
        if self.plan.dropout == 0:
            return None
        generator = torch.Generator(self.query.device)
        place = (group.first * self.plan.heads + lane.heads.start) * self.n + span.begin
        generator.manual_seed((self.plan.seed + place) % 2**63)
        keep = torch.empty_like(self._tile)
        return keep.bernoulli_(1 - self.plan.dropout, generator=generator).div_(1 - self.plan.dropout)

    def weighted(self, lane: Lane, span: Chunk, tile: Tensor, value: Tensor) -> Tensor:
        """The sum of values by a tile's weights, [rows * heads, queries, D]."""
        (columns, keys), *others = span.runs
        mixed = torch.bmm(tile[:, :, columns], self.keys_of(value, lane, keys).mT)
        for columns, keys in others:
            mixed.baddbmm_(tile[:, :, columns], self.keys_of(value, lane, keys).mT)
        return mixed

    def slope(self, lane: Lane, span: Chunk, grad: Tensor, value: Tensor) -> Tensor:
        """The gradient of a tile's weights."""
        self._slope = slope = buffer(self._slope, *self._tile.shape)
        for columns, keys in span.runs:
            slope[:, :, columns].baddbmm_(grad, self.keys_of(value, lane, keys), beta=0)
        for piece in span.pieces:
            if piece.pad:
                slope[:, :, piece.at - piece.pad : piece.at] = 0
        return slope


def buffer(old: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape, in the memory of an old one where that is large enough."""
    size = 1
    for count in shape:
        size *= count
    storage = old if old.numel() >= size else old.new_empty(size)
    return storage.view(-1)[:size].view(shape)
