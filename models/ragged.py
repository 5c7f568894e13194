"""Ragged layers of a state: every row has its own number of slots, and takes no more than that.

A layer whose state has a tensor `ragged_lengths` [B] is ragged: its other tensors hold the slots of all rows, one row
behind the other, [sum of lengths, ...].
"""

from __future__ import annotations

import torch
from torch import Tensor

LENGTHS = "ragged_lengths"


def split(layer: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The rows of a ragged layer, each a ragged layer of one row."""
    lengths = layer[LENGTHS]
    parts = {name: torch.split(tensor, lengths.tolist()) for name, tensor in layer.items() if name != LENGTHS}
    return [
        {**{name: part[row] for name, part in parts.items()}, LENGTHS: lengths[row : row + 1]}
        for row in range(len(lengths))
    ]


def join(layers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The ragged layer whose rows are those of `layers` in order."""
    return {name: torch.cat([layer[name] for layer in layers]) for name in layers[0]}


def with_names(layer: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ragged layer with zeros for what only the other has (edited spans)."""
    slots = int(layer[LENGTHS].sum())
    return {
        name: layer[name] if name in layer else tensor.new_zeros(slots, *tensor.shape[1:])
        for name, tensor in other.items()
    }


def behind(lengths: Tensor, n: int) -> Tensor:
    """The order in which ragged slots, with n new ones behind each row's, stand in `both` of them."""
    older, rows = int(lengths.sum()), len(lengths)
    new = torch.arange(rows * n, device=lengths.device).view(rows, n)
    order = torch.empty(older + rows * n, dtype=torch.long, device=lengths.device)
    order[row_of(lengths) * n + torch.arange(older, device=lengths.device)] = torch.arange(older, device=lengths.device)
    order[new + lengths.cumsum(0)[:, None]] = older + new
    return order


def both(older: Tensor, newer: Tensor, order: Tensor) -> Tensor:
    """What an order, or a part of it, names of ragged slots [sum of lengths, ...] and those of a block [B, n, ...]."""
    return torch.cat([older, newer.flatten(0, 1)]).index_select(0, order)


def row_of(lengths: Tensor) -> Tensor:
    """The row of each slot."""
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def lengths_of(chosen: Tensor, lengths: Tensor) -> Tensor:
    """How many slots of each row are chosen: by numbers, or by booleans [sum of lengths]."""
    return torch.bincount(row_of(lengths)[chosen], minlength=len(lengths))
