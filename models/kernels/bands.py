"""Which keys each query of a block sees: stretches of a row's keys that end where the query stands.

A row's keys stand in columns, oldest first. A `Band` is a stretch of them; query t of the call (from 0) sees

    the `width` columns before hi(t) = right - lag + (begun + t) // rate,

as far as they lie in the stretch, where `right` is its end. So `rate` 1 is the window of a Transformer-XL, and rate c
the pooled slots of a Compressive Transformer. Position vectors are aligned to hi(t): the last one is column hi(t) - 1.

A `Chunk` is the part of a block's queries that is computed at once, and a `Piece` of it the columns of one band that
any of them sees: they stand side by side in a `tile` of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """A stretch of keys and who sees what of it."""

    lag: int
    """How far before the stretch's end stops what a query with begun + t = 0 sees."""
    width: int | None = None
    """How many keys a query sees at most; None: all before it."""
    size: int | None = None
    """Keys of the stretch; None: all that do not stand behind it."""
    behind: int = 0
    """Keys of the row that stand behind the stretch."""
    rate: int = 1
    """How many queries share a place."""
    begun: int = 0
    """Queries of the open block that were read before this call; counts where rate is not 1."""

    def left(self, columns: int) -> int:
        """The stretch's first column in a row of so many."""
        return 0 if self.size is None else columns - self.behind - self.size

    def hi(self, t: int, columns: int) -> int:
        """The column before which query t sees."""
        return columns - self.behind - self.lag + (self.begun + t) // self.rate


@dataclass(frozen=True)
class Piece:
    """The columns of one band that some queries of a chunk see, and where they stand in its tile."""

    band: int
    keys: slice
    """Columns of the row's keys."""
    at: int
    """Their first column in the tile."""
    pad: int
    """Columns of the tile before `at` that stand for no key: position terms of the older queries fall there."""
    reach: int
    """Position vectors that are used."""
    first_hi: int
    """hi of the chunk's first query, as a column of the tile."""
    rises: Sequence[int]
    """hi of each query over that of the first."""
    sinks: Sequence[int]
    """The first column that each query sees, over that of the first query; one 0 for all if they are the same."""

    @property
    def columns(self) -> slice:
        """The tile's columns that stand for keys."""
        return slice(self.at, self.at + self.keys.stop - self.keys.start)


@dataclass(frozen=True)
class Chunk:
    """Queries from `begin` to `end` (exclusive), and the pieces of their tile, `width` columns in all."""

    begin: int
    end: int
    width: int
    pieces: tuple[Piece, ...]
    runs: tuple[tuple[slice, slice], ...]
    """Columns of the tile and the keys that they stand for, as few as possible: what is multiplied at once."""
    _edges: dict[int, tuple[Tensor | None, Tensor | None]] = field(default_factory=dict, compare=False, repr=False)

    def edges(self, number: int, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What hides keys at a piece's ends, [queries, columns]: -inf where a query does not see; None for nothing.

        To add it is quicker than to fill by a mask.
        """
        if number not in self._edges:
            piece = self.pieces[number]
            left = right = None
            if piece.sinks[-1]:
                sinks = torch.tensor(piece.sinks, device=like.device)
                left = _hidden(torch.arange(piece.sinks[-1], device=like.device) < sinks[:, None], like)
            behind = piece.columns.stop - piece.first_hi
            if behind:
                rises = torch.tensor(piece.rises, device=like.device)
                right = _hidden(torch.arange(behind, device=like.device) >= rises[:, None], like)
            self._edges[number] = left, right
        return self._edges[number]


def _hidden(where: Tensor, like: Tensor) -> Tensor:
    """-inf there, else 0, in the precision of `like`."""
    return torch.zeros(where.shape, dtype=like.dtype, device=like.device).masked_fill_(where, -torch.inf)


def chunk(bands: tuple[Band, ...], positions: tuple[int, ...], columns: int, begin: int, end: int) -> Chunk:
    """The tile of the queries from `begin` to `end`.

    Args:
        bands: of the row.
        positions: P, how many position vectors each band has.
        columns: keys of the row.
    """
    pieces, width = [], 0
    for number, (band, count) in enumerate(zip(bands, positions, strict=True)):
        first, last, left = band.hi(begin, columns), band.hi(end - 1, columns), band.left(columns)
        begun = (band.begun + begin) // band.rate
        rises = [(band.begun + t) // band.rate - begun for t in range(begin, end)]
        lo = left if band.width is None else max(left, first - band.width)
        late = 0 if band.width is None else lo + band.width - first  # how far a window has to go until it leaves `left`
        # Where a row has fewer keys than there are positions, the vectors of the chunk's first queries begin before it.
        reach = min(count, last - left, count if band.width is None else band.width)
        pad = max(0, lo - (first - reach)) if band.rate == 1 else 0
        at = width + pad
        pieces.append(
            Piece(
                band=number,
                keys=slice(lo, last),
                at=at,
                pad=pad,
                reach=reach,
                first_hi=at + first - lo,
                rises=rises,
                sinks=[0] if band.width is None else [max(0, rise - late) for rise in rises],
            )
        )
        width = at + last - lo
    runs = _runs(pieces)
    if len(runs) == 1 and runs[0][1] == slice(0, columns - 1):
        # The last column is seen by none of them; but all columns are one stretch of memory, and so are quicker.
        pieces[-1] = replace(pieces[-1], keys=slice(pieces[-1].keys.start, columns))
        width, runs = width + 1, _runs(pieces)
    return Chunk(begin, end, width, tuple(pieces), runs)


def _runs(pieces: Sequence[Piece]) -> tuple[tuple[slice, slice], ...]:
    """Columns of the tile and the keys that they stand for, pieces that touch in both taken together."""
    runs: list[tuple[slice, slice]] = []
    for piece in pieces:
        if runs and (runs[-1][0].stop, runs[-1][1].stop) == (piece.columns.start, piece.keys.start):
            (there, keys), piece_end = runs.pop(), (piece.columns.stop, piece.keys.stop)
            runs.append((slice(there.start, piece_end[0]), slice(keys.start, piece_end[1])))
        else:
            runs.append((piece.columns, piece.keys))
    return tuple(runs)
