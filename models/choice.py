"""Which states a memory of fixed size keeps.

Shared by the methods that choose (`memory_transformer`, `importance_sparse`, the most-used compression).
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.errors import Unsupported


def slots_beside(method: str, slots: int, alive: float, block_length: int) -> int:
    """m with which a memory of fixed size and a block together have `slots`; what `sized` of such a method asks for."""
    if alive != 1:
        raise Unsupported(f"{method} keeps as many states as it has slots")
    if slots <= block_length:
        raise Unsupported(f"{slots} positions leave no memory beside a block of {block_length}")
    return slots - block_length


def greatest(importance: Tensor, count: int) -> Tensor:
    """The places [..., count] of the greatest values of importance [..., S], in order; of equal ones the later stay.

    The same values give the same places whatever stands beside them: ties are not left to rounding or to the device.
    """
    latest_first = importance.flip(-1).sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return (importance.shape[-1] - 1 - latest_first).sort(dim=-1).values


def weighed(h: Tensor, weight: Tensor) -> Tensor:
    """w . h of hidden states [..., E] and a weight [..., E], as [...].

    A product and a sum per state, since a matrix product may round equal states differently by where they stand, and
    what is equal must stay equal to be chosen alike. (On a CPU it does. A GPU may add up in an order that depends on
    how many states there are, so that a tie can fall otherwise there when a stream is read in other pieces.)
    """
    return (h * weight).sum(-1)


_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)  # of the mixing function of SplitMix64, as signed numbers


def scrambled(*numbers: Tensor | int) -> Tensor:
    """A number in [0, 2^62) that looks random, made from whole numbers (tensors of one shape, or broadcast)."""
    mixed = torch.zeros((), dtype=torch.long, device=next(n.device for n in numbers if isinstance(n, Tensor)))
    for number in numbers:
        mixed = mixed + number + -7046029254386353131
        for multiplier, shift in zip(_MULTIPLIERS, (30, 27), strict=True):
            mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
        mixed = mixed ^ ((mixed >> 31) & ((1 << 33) - 1))
    return (mixed >> 2) & ((1 << 62) - 1)
