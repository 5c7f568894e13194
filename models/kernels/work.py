"""What the attention's forward and backward share: what is computed at once, and the scores of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.kernels import skew
from models.kernels.bands import Band, Chunk, chunk
from models.kernels.bias import Bias
from models.kernels.rows import Group, Rows

TILE = 1 << 18
"""Scores in a tile, at most (float32: 1 MB), unless a few queries alone have more keys."""
FEWEST = 32
"""Queries in a chunk, at least, where the block has as many: fewer make narrow, slow products."""


@dataclass(frozen=True)
class Lane:
    """Heads that see the same keys.

    Args:
        heads: which: all, or one.
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

    def __post_init__(self) -> None:
        if any(lane.heads.stop - lane.heads.start not in (1, self.heads) for lane in self.lanes):
            raise ValueError(f"a lane has all {self.heads} heads or one")


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
        slots = [
            source.shape[1] if lengths is None else lengths
            for source, lengths in zip(sources, plan.lengths, strict=True)
        ]
        self.rows = Rows(self.batch, slots, query.device)
        self._tile = self._weight = query.new_empty(0)
        self._memo: dict[tuple[Group, str], Any] = {}

    def memo(self, group: Group, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once per group."""
        if (group, name) not in self._memo:
            self._memo = {key: value for key, value in self._memo.items() if key[0] == group}
            self._memo[group, name] = make()
        return self._memo[group, name]

    def groups(self) -> Iterator[Group]:
        """The batch's rows, as many at a time as fit a tile."""
        # Keys and values that were given are copied for several rows at once, which does not pay for few queries.
        queries = self.n if self.values is None else max(self.n, FEWEST)
        return self.rows.groups(TILE // (self.plan.heads * queries))

    def states(self, group: Group) -> Iterator[tuple[slice, Tensor]]:
        """The hidden states of a group: columns, and states [rows, columns, E].

        Those of one row are read where they stand. Those of several are copied side by side: a few large products are
        quicker than many small ones.
        """
        parts = [self.rows.taken(source, number, group) for number, source in enumerate(self.sources)]
        if group.count == 1:
            yield from zip(self.rows.places(group), parts, strict=True)
        else:
            yield slice(0, group.columns), torch.cat(parts, dim=1)

    def projected(self, group: Group) -> tuple[Tensor, Tensor]:
        """Keys and values of a group, [rows * H, columns, D] each."""
        if self.weights is None:
            assert self.values is not None
            key, value = (self.rows.taken(x, 0, group).to(self.query.dtype) for x in (self.sources[0], self.values))
            return self.by_head(key.flatten(0, 1), group), self.by_head(value.flatten(0, 1), group)
        states = list(self.states(group))
        key, value = (self._projection(states, weight, group) for weight in self.weights)
        return key, value

    def _projection(self, states: Sequence[tuple[slice, Tensor]], weight: Tensor, group: Group) -> Tensor:
        flat = self.query.new_empty(group.count * group.columns, len(weight))
        for columns, part in states:
            into = flat[columns] if group.count == 1 else flat
            torch.mm(part.flatten(0, 1), weight.T, out=into)
        return self.by_head(flat, group)

    def by_head(self, flat: Tensor, group: Group) -> Tensor:
        """What [rows * columns, H * D] holds, as [rows * H, columns, D]: where it stands if the group is one row."""
        by_slot = flat.view(group.count, group.columns, self.plan.heads, self.head_dim)
        return by_slot.transpose(1, 2).flatten(0, 1)

    def by_slot(self, by_head: Tensor, group: Group) -> Tensor:
        """The other way."""
        return (
            by_head.view(group.count, -1, group.columns, self.head_dim)
            .transpose(1, 2)
            .reshape(group.count * group.columns, -1)
        )

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

    def at_once(self, group: Group) -> bool:
        """Whether each key of a group's rows and heads stands in one tile, and in one only."""
        spans = list(self.spans(group))
        return sum(lane.heads.stop - lane.heads.start for lane, _ in spans) == self.plan.heads and all(
            [keys for _, keys in span.runs] == [slice(0, group.columns)] for _, span in spans
        )

    def of_lane(self, x: Tensor, group: Group, lane: Lane, span: Chunk) -> Tensor:
        """The part of x [B, H, n, ...] that a tile's rows are made of: [rows * heads, queries, ...]."""
        return x[group.rows, lane.heads, span.begin : span.end].flatten(0, 1)

    def keys_of(self, x: Tensor, lane: Lane, columns: slice) -> Tensor:
        """The part of a group's keys or values [rows * H, columns, D] that a lane reads."""
        if lane.heads.stop - lane.heads.start == self.plan.heads:
            return x[:, columns]
        if len(x) == self.plan.heads:
            return x[lane.heads, columns]
        return x[lane.heads.start :: self.plan.heads, columns]

    def scores(self, group: Group, lane: Lane, span: Chunk, key: Tensor) -> Tensor:
        """The scores of a tile, [rows * heads, queries, width]; -inf where a query does not see."""
        query = self.of_lane(self.query, group, lane, span)
        asking = self.of_lane(self.asking, group, lane, span) if self.apart else query
        self._tile = tile = buffer(self._tile, len(query), query.shape[1], span.width)
        for columns, keys in span.runs:
            tile[:, :, columns].baddbmm_(query, self.keys_of(key, lane, keys).mT, beta=0)
        for number, piece in enumerate(span.pieces):
            if piece.pad:
                tile[:, :, piece.at - piece.pad : piece.at] = 0
            p = self.vectors(piece.band, lane, group)
            if p is not None:
                skew.add_terms(tile, asking, p, lane.bands[piece.band].rate, piece)
            if piece.pad:
                tile[:, :, piece.at - piece.pad : piece.at] = -torch.inf
            left, right = span.edges(number, tile)
            if left is not None:
                tile[:, :, piece.at : piece.at + left.shape[1]].add_(left)
            if right is not None:
                tile[:, :, piece.first_hi : piece.first_hi + right.shape[1]].add_(right)
        self.hide_padding(tile, group, span)
        if self.plan.bias is not None:
            self.plan.bias.add(tile, self, group, lane, span)
        return tile

    def hide_padding(self, tile: Tensor, group: Group, span: Chunk) -> None:
        """Hides the columns that a row of a ragged group does not have."""
        if self.plan.bias is not None and self.plan.bias.hides_padding:
            return
        missing = self.memo(group, "missing", lambda: self.rows.missing(group))
        if missing is not None:
            (piece,) = span.pieces
            there = slice(piece.keys.start, min(piece.keys.stop, missing.shape[1]))
            hidden = missing[:, None, None, there]
            rows = tile.view(group.count, -1, *tile.shape[1:])
            rows[..., piece.at : piece.at + hidden.shape[-1]].masked_fill_(hidden, -torch.inf)

    def attention(self, tile: Tensor) -> Tensor:
        """The softmax of a tile's scores: each query's keys are all in it. 0 for a query that sees none."""
        self._weight = buffer(self._weight, *tile.shape)
        weight = torch.softmax(tile, -1, out=self._weight)
        if bool(weight[..., 0].isnan().any()):  # of -inf alone, or of a NaN, which is to be seen
            weight.masked_fill_(tile.amax(-1, keepdim=True) == -torch.inf, 0)
        return weight

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
        mixed = torch.bmm(tile[:, :, columns], self.keys_of(value, lane, keys))
        for columns, keys in others:
            mixed.baddbmm_(tile[:, :, columns], self.keys_of(value, lane, keys))
        return mixed

    def slope(self, lane: Lane, span: Chunk, grad: Tensor, value: Tensor) -> Tensor:
        """The gradient of a tile's weights, where its scores stood."""
        slope = self._tile
        for columns, keys in span.runs:
            slope[:, :, columns].baddbmm_(grad, self.keys_of(value, lane, keys).mT, beta=0)
        for piece in span.pieces:
            if piece.pad:
                slope[:, :, piece.at - piece.pad : piece.at] = 0
        return slope


def buffer(old: Tensor, *shape: int) -> Tensor:
    """A contiguous tensor of this shape, from the beginning of an old one's memory where that is large enough."""
    size = math.prod(shape)
    room = old.untyped_storage().nbytes() // old.element_size()
    return (old if room >= size else old.new_empty(size)).as_strided((size,), (1,), 0).view(shape)
