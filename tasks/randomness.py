"""Random numbers named by what they are for, so that a resumed or parallel run draws the same ones.

Nothing is drawn from a generator that lives through a run: each draw's generator is made from (seed, purpose, numbers).
"""

from __future__ import annotations

import hashlib
import random

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as ``derive(0, "train", "row", 3)``."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def uniform(seed: int, *purpose: str | int) -> float:
    """A number in [0, 1) for one purpose."""
    return random.Random(derive(seed, *purpose)).random()


def seed_generators(seed: int) -> None:
    """Seeds PyTorch's generators of the devices in use, as `torch.manual_seed` does.

    That also queues the seed for devices that are not in use, and formats a stack trace for each: 1 ms of every step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
