"""Memories that no later query will see leave a state, and each row moves together to the right.

A method says which slots stay (`models.mixer.Mixed.stays`); how many that are, the device knows before the host does.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.host import read_together
from models.state import LayerState, State


def pack(state: State, stays: Sequence[Tensor | None]) -> None:
    """Frees the slots that do not stay, layer by layer, so that no two layers are there twice.

    Args:
        state: of all layers; its entries are replaced.
        stays: for each layer which of its slots stay [B, S], or None for all. What stays keeps its order, and rows in
            which less stays are filled up with zeros on the left.

    Raises:
        ValueError: a layer says which slots stay, and has a tensor that does not begin with [B, S].
    """
    counts = read_together([None if mask is None else mask.sum(1).amax().view(1) for mask in stays])
    for number, (mask, count) in enumerate(zip(stays, counts, strict=True)):
        if mask is not None and count is not None:
            state[number] = _packed(state[number], mask, int(count[0]))


def _packed(layer: LayerState, stays: Tensor, slots: int) -> LayerState:
    in_order = stays.int().argsort(dim=1, stable=True)  # what goes, then what stays; each in order of time
    order = in_order[:, in_order.shape[1] - slots :]
    kept = stays.gather(1, order)
    packed = {}
    for name, tensor in layer.items():
        if tensor.shape[:2] != stays.shape:
            raise ValueError(f"`stays` is of {list(stays.shape)} slots, and the state's {name} of {list(tensor.shape)}")
        entry = (..., *(None,) * (tensor.dim() - 2))
        packed[name] = tensor.gather(1, order[entry].expand(-1, -1, *tensor.shape[2:])) * kept[entry]
    return packed
