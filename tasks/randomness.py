"""Random numbers named by what they are for, so that a resumed or parallel run draws the same ones.

Nothing is drawn from a generator that lives through a run: each draw's generator is made from (seed, purpose, numbers).
"""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as ``derive(0, "train", "row", 3)``."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def uniform(seed: int, *purpose: str | int) -> float:
    """A number in [0, 1) for one purpose."""
    return random.Random(derive(seed, *purpose)).random()
