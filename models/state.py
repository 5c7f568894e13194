"""What a model carries from one block of a stream to the next: plain tensors in dictionaries and lists.

A layer's state is a dictionary of tensors whose first axis is the batch row; a model's state is the list of its
layers'. Nothing else is remembered between calls, so a state can be detached, moved, cut into rows and saved by
whoever holds it, without knowing the method.

Convention: a memory's slots stand on axis 1, oldest first, and rows with fewer slots are padded **on the left with
zeros**. A method either counts a zero slot as a zero vector that is attended (`models/transformer_xl.py`) or carries a
tensor in which zero says that the slot is empty (`models/expire_span.py`). So, between blocks, a row can be reset
without knowing the method: `reset_rows` pads the fresh row with zeros to the length the others have.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LayerState = dict[str, Tensor]
State = list[LayerState]


def map_state(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The state with `function` applied to every tensor."""
    return [{name: function(tensor) for name, tensor in layer.items()} for layer in state]


def detach(state: State) -> State:
    """The state cut off from the graph that made it."""
    return map_state(state, Tensor.detach)


def rows(state: State, index: slice | Tensor) -> State:
    """The state of some batch rows: a slice, or a tensor of row numbers or booleans [B]."""
    return map_state(state, lambda tensor: tensor[index])


def pad_left(tensor: Tensor, slots: int) -> Tensor:
    """The tensor [B, S, ...] with zeros put before slot 0 until it has `slots` slots."""
    missing = slots - tensor.shape[1]
    return functional.pad(tensor, (0, 0) * (tensor.dim() - 2) + (missing, 0)) if missing > 0 else tensor


def _aligned(tensors: list[Tensor]) -> list[Tensor]:
    if tensors[0].dim() < 2:
        return tensors
    longest = max(tensor.shape[1] for tensor in tensors)
    return [pad_left(tensor, longest) for tensor in tensors]


def reset_rows(state: State, fresh: State, reset: Tensor) -> State:
    """The state with the rows where `reset` [B] is true replaced by those of `fresh`."""
    blended: State = []
    for old_layer, new_layer in zip(state, fresh, strict=True):
        layer: LayerState = {}
        for name, tensor in old_layer.items():
            # What only this stream carries (edited spans) is zero where a row begins anew.
            begin = new_layer[name] if name in new_layer else torch.zeros_like(tensor)
            old, new = _aligned([tensor, begin])
            layer[name] = torch.where(reset.view(-1, *(1,) * (old.dim() - 1)), new, old)
        blended.append(layer)
    return blended


def join_rows(parts: list[State]) -> State:
    """The state whose rows are those of all `parts` in order."""
    return [
        {name: torch.cat(_aligned([layer[name] for layer in layers])) for name in layers[0]}
        for layers in zip(*parts, strict=True)
    ]


def state_bytes(layer: LayerState) -> int:
    """Bytes of one layer's state, all rows together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in layer.values())
