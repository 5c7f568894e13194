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


def joined(older: Tensor, newer: Tensor, lengths: list[int]) -> Tensor:
    """Ragged slots [sum of lengths, ...] with those of a block [B, n, ...] behind each row's."""
    parts = torch.split(older, lengths)
    return torch.cat([part for pair in zip(parts, newer, strict=True) for part in pair])


def lengths_of(chosen: Tensor, lengths: Tensor) -> Tensor:
    """How many slots of each row are chosen: by numbers, or by booleans [sum of lengths]."""
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return torch.bincount(row[chosen], minlength=len(lengths))
