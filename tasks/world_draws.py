"""Random numbers of many worlds at once: each a function of (world's key, number) alone, on whatever device.

A counter-based generator (SplitMix64's mixing function; Steele, Lea and Flood 2014) in integer tensors: a world draws
the same numbers alone, beside others, on a CPU or a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def world_keys(seed: int, first: int, count: int, device: torch.device) -> Tensor:
    """The keys [count] of the worlds `first`, first + 1, ... of a seed."""
    number = torch.arange(first, first + count, device=device)
    return _mixed(_mixed(torch.full_like(number, seed)) + (number + 1) * _GOLDEN)


def uniform(key: Tensor, first: int, count: int) -> Tensor:
    """Numbers [worlds, count] in [0, 1), float32 of 24 bits: those that the keys [worlds] have from `first` on."""
    number = torch.arange(first + 1, first + count + 1, device=key.device)
    bits = _mixed(key[:, None] + number * _GOLDEN)
    return _shifted(bits, 40).float() * 2.0**-24


def whole(key: Tensor, first: int, count: int, below: int) -> Tensor:
    """Whole numbers [worlds, count], uniform in 0 .. below - 1."""
    return (uniform(key, first, count) * below).long().clamp(max=below - 1)  # a product may be rounded up to `below`


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shifted to the right with zeros from the left; >> repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
