"""What the host must know of what the device computed: read for all layers at once.

On a GPU the host runs ahead, and each reading makes it wait until all that is queued there is done. So no layer reads
for itself: it names what it needs, and the backbone reads once per block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def read_together(numbers: Sequence[Tensor | None]) -> list[tuple[float, ...] | None]:
    """The values of some tensors [k] of one kind, each with its own k, on the host by one reading; None stays None."""
    given = [tensor for tensor in numbers if tensor is not None]
    if not given:
        return [None] * len(numbers)
    values = iter(torch.cat(given).tolist())
    return [None if tensor is None else tuple(next(values) for _ in range(len(tensor))) for tensor in numbers]
