"""Distances back to what must be remembered, in bins from a power of two to the next."""

from __future__ import annotations

import torch
from torch import Tensor


def distance_bin(distance: Tensor) -> Tensor:
    """The bin of each distance: 0 for 0, b for 2^(b-1) .. 2^b - 1. Raises ValueError for a distance below 0."""
    if bool((distance < 0).any()):
        raise ValueError("a scored position has no distance")
    return torch.frexp(distance.double()).exponent.long()


def bin_ends(number: int) -> tuple[int, int]:
    """The least and the greatest distance of a bin."""
    return (2 ** (number - 1), 2**number - 1) if number else (0, 0)


def bin_context(number: int) -> dict[str, str | int]:
    """What a row of a bin says of it: `distance`, as text, with `distance_min` and `distance_max`."""
    low, high = bin_ends(number)
    return {"distance": f"{low}-{high}" if high else "0", "distance_min": low, "distance_max": high}
