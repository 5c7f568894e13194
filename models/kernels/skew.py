"""Position terms of a tile: vectors belong to distances, so each query's stand elsewhere in a tile of keys.

Packed, position terms are [rows * heads, queries, P], one column per vector. In a tile [rows * heads, queries, columns]
the same numbers stand askew: each query's end where its keys end. A strided view of the tile has them side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from models.kernels.bands import Piece


def views(tile: Tensor, packed: Tensor | None, rate: int, piece: Piece) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of a tile and what belongs there of the packed terms, in equal shapes.

    Args:
        tile: [rows * heads, queries, columns], contiguous.
        packed: [rows * heads, queries, P], contiguous; None where only the tile's part is asked for, of rate 1.
        rate: how many queries share a place.
        piece: where in the tile.
    """
    (rows, queries, _), (by_row, by_query, _) = tile.shape, tile.stride()
    begin, count = tile.storage_offset() + piece.first_hi - piece.reach, piece.reach
    if rate == 1:
        view = tile.as_strided((rows, queries, count), (by_row, by_query + 1, 1), begin)
        yield view, view if packed is None else packed
        return
    assert packed is not None
    whole = queries % rate == 0 and piece.rises[rate - 1] == 0 and piece.rises[-1] == queries // rate - 1
    if whole and piece.first_hi - piece.at >= count:
        shape = (rows, queries // rate, rate, count)
        yield tile.as_strided(shape, (by_row, rate * by_query + 1, by_query, 1), begin), packed.view(shape)
        return
    first = 0
    while first < queries:
        last = first
        while last < queries and piece.rises[last] == piece.rises[first]:
            last += 1
        end = piece.first_hi + piece.rises[first]
        there = min(count, end - piece.at)
        yield tile[:, first:last, end - there : end], packed[:, first:last, count - there :]
        first = last


def add_terms(tile: Tensor, asking: Tensor, p: Tensor, rate: int, piece: Piece) -> None:
    """Adds asking . p to a tile.

    Args:
        tile: as above. asking: r [rows * heads, queries, D].
        p: [D, P] for all heads or [rows * heads, D, P], of which the last columns are used.
        rate, piece: as above.
    """
    p = p[..., p.shape[-1] - piece.reach :]
    if rate == 1 and len(tile) == 1:  # one large product goes where it belongs at once
        ((view, _),) = views(tile, None, rate, piece)
        view.baddbmm_(asking, p.expand(1, -1, -1))
        return
    for view, part in views(tile, asking @ p, rate, piece):
        view.add_(part)


def add_gradients(
    slope: Tensor, asking: Tensor, p: Tensor, by_asking: Tensor, by_p: Tensor, rate: int, piece: Piece
) -> None:
    """Adds the gradients of `add_terms`.

    Args:
        slope: the gradient of the tile; 0 where its columns stand for no key.
        asking, p, rate, piece: as above.
        by_asking, by_p: what is added to, in the shapes of asking and p.
    """
    p, into = p[..., p.shape[-1] - piece.reach :], by_p[..., by_p.shape[-1] - piece.reach :]
    if rate == 1 and len(slope) == 1:
        ((packed, _),) = views(slope, None, rate, piece)
    else:
        packed = slope.new_empty(*asking.shape[:2], piece.reach)
        if rate > 1:
            packed.zero_()  # the oldest vectors stand for no key where there are few
        for view, part in views(slope, packed, rate, piece):
            part.copy_(view)
    if p.dim() == 3:
        by_asking.baddbmm_(packed, p.mT)
        into.baddbmm_(asking.mT, packed)
    elif len(slope) == 1:
        by_asking[0].addmm_(packed[0], p.T)
        into.addmm_(asking[0].T, packed[0])
    else:
        by_asking.view(-1, by_asking.shape[-1]).addmm_(packed.flatten(0, 1), p.T)
        into.addmm_(asking.flatten(0, 1).T, packed.flatten(0, 1))
