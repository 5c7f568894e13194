"""What a model carries from one block of a stream to the next: plain tensors in dictionaries and lists.

A layer's state is a dictionary of tensors whose first axis is the batch row; a model's state is the list of its
layers'. Nothing else is remembered between calls, so a state can be detached, moved, cut into rows and saved by
whoever holds it, without knowing the method.

Convention: a memory's slots stand on axis 1, oldest first, and rows with fewer slots are padded **on the left with
zeros**. A method either counts a zero slot as a zero vector that is attended (`models/transformer_xl.py`) or carries a
tensor in which zero says that the slot is empty (`models/expire_span.py`). So, between blocks, a row can be reset
without knowing the method: `reset_rows` pads the fresh row with zeros to the length the others have.

A layer whose state has a tensor `ragged_lengths` [B] is ragged: its other tensors hold the slots of all rows, one row
behind the other, [sum of lengths, ...], so that a row with few slots takes little, however many the fullest row has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from models import ragged

LayerState = dict[str, Tensor]
State = list[LayerState]


def map_state(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The state with `function` applied to every tensor."""
    return [{name: function(tensor) for name, tensor in layer.items()} for layer in state]


def detach(state: State) -> State:
    """The state cut off from the graph that made it."""
    return map_state(state, Tensor.detach)


CACHE = "cache_"
"""How the names begin of what a state carries to save computing only, as long as no parameter changes: keys, values and
predicted spans of its slots."""


def is_cache(name: str) -> bool:
    """Whether a tensor of a state only saves computing."""
    return name.startswith(CACHE)


def without_caches(layer: LayerState) -> LayerState:
    """A layer's state without its caches, for a step that does not carry them on."""
    return {name: tensor for name, tensor in layer.items() if not is_cache(name)}


def held_rows(held: Tensor, *memories: Tensor) -> tuple[list[Tensor], tuple[int, ...] | None]:
    """Memories [B, S, ...] without the slots that a row does not have (`held` [B, S]): ragged, with the rows' lengths.

    As they are, and None, where every row has all slots.
    """
    if bool(held.all()):
        return list(memories), None
    number = held.flatten().nonzero().squeeze(1)
    return [memory.flatten(0, 1).index_select(0, number) for memory in memories], tuple(held.sum(1).tolist())


def batch_rows(layer: LayerState) -> int:
    """Number of batch rows of a layer's state."""
    return (layer[ragged.LENGTHS] if ragged.LENGTHS in layer else next(iter(layer.values()))).shape[0]


def rows(state: State, index: slice | Tensor) -> State:
    """The state of some batch rows: a slice, or a tensor of row numbers or booleans [B]."""
    return [_rows(layer, index) for layer in state]


def _rows(layer: LayerState, index: slice | Tensor) -> LayerState:
    if isinstance(index, slice) and index.indices(batch_rows(layer)) == (0, batch_rows(layer), 1):
        return layer
    if ragged.LENGTHS not in layer:
        return {name: tensor[index] for name, tensor in layer.items()}
    parts = ragged.split(layer)
    wanted = torch.arange(len(parts))[index if isinstance(index, slice) else index.cpu()].tolist()
    return (
        ragged.join([parts[row] for row in wanted]) if wanted else {name: tensor[:0] for name, tensor in layer.items()}
    )


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
    for before, new_layer in zip(state, fresh, strict=True):
        # Caches of the other rows would be of no use beside a row that has none.
        old_layer = {name: tensor for name, tensor in before.items() if not is_cache(name) or name in new_layer}
        if ragged.LENGTHS in old_layer:
            pairs = zip(
                ragged.split(old_layer),
                ragged.split(ragged.with_names(new_layer, old_layer)),
                reset.tolist(),
                strict=True,
            )
            blended.append(ragged.join([new if begins else old for old, new, begins in pairs]))
            continue
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
        ragged.join(list(layers))
        if ragged.LENGTHS in layers[0]
        else {name: torch.cat(_aligned([layer[name] for layer in layers])) for name in layers[0]}
        for layers in zip(*parts, strict=True)
    ]


def cache_bytes(layer: LayerState) -> int:
    """Bytes of one layer's caches, all rows together."""
    return sum(tensor.numel() * tensor.element_size() for name, tensor in layer.items() if is_cache(name))


def state_bytes(layer: LayerState) -> int:
    """Bytes of one layer's state, all rows together, without caches."""
    return sum(tensor.numel() * tensor.element_size() for name, tensor in layer.items() if not is_cache(name))
