"""One training step on a document of every row, up to the gradients: what the Lightning module and the clock both run.

A document is read block by block, memory carried, and begins with none. Methods that read twice (`Mixer.readings`) read
all of it first, without a loss, and then each block again with what that left. The loss is over the whole document:

    loss = sum(w * nll) / max(sum(w), 1) + auxiliary loss per block, mean over blocks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.backbone import Backbone, Output
from models.state import State, join_rows
from tasks.stream import StreamBatch
from tasks.stream_step import exact, read_block

EditSpans = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class ReadDocument:
    """What reading a document gave: as `tasks.stream_step.Read`, of all its blocks."""

    state: State
    nats: Tensor
    statistics: dict[str, Tensor]
    learns: bool


def blocks(document: StreamBatch, length: int) -> Iterator[StreamBatch]:
    """The blocks of T tokens of a document of every row; none of them resets memory, which begins with the document."""
    tokens = {
        name: getattr(document, name)
        for name in ("inputs", "targets", "weights", "distance", "item", "kind")
        if getattr(document, name) is not None
    }
    for begin in range(0, document.targets.shape[1], length):
        part = {name: tensor[:, begin : begin + length] for name, tensor in tokens.items()}
        yield replace(document, **part, reset=torch.zeros_like(document.reset))


@torch.no_grad()
def begin(
    model: Backbone,
    document: StreamBatch,
    randomness: float | None,
    groups: int = 1,
    caching: bool = False,
    edit_spans: EditSpans | None = None,
) -> State | None:
    """The state that a document is labelled from: None for a fresh one, or what a first reading of all of it leaves.

    Args:
        groups: how many groups of rows are read one after another.
    """
    if model.readings() == 1:
        return None
    size, left = document.reset.shape[0] // groups, []
    for first in range(0, groups * size, size):
        state = model.init_state(size)
        for block in blocks(document.rows(slice(first, first + size)), model.sizes.block_length):
            state = model(block.inputs, state, randomness, edit_spans, caching).state
        left.append(model.again(state))
    return left[0] if groups == 1 else join_rows(left)


def labelled(
    model: Backbone, document: StreamBatch, edit_spans: EditSpans | None = None
) -> Iterator[tuple[StreamBatch, Output]]:
    """The blocks of a document of every row and what the model makes of each, in evaluation.

    Args:
        edit_spans: see `Backbone.forward`.
    """
    state = begin(model, document, None, caching=True, edit_spans=edit_spans)
    if state is None:
        state = model.init_state(document.reset.shape[0])
    for block in blocks(document, model.sizes.block_length):
        output = model(block.inputs, state, edit_spans=edit_spans, caching=True)
        state = output.state
        yield block, output


def read_document(
    model: Backbone,
    document: StreamBatch,
    randomness: float,
    groups: int,
    divisor: Tensor,
    backward: Callable[[Tensor], None],
) -> ReadDocument:
    """Reads a document of every row and back-propagates its loss, block by block.

    Args:
        model: in training mode.
        document: [B, document length]; a whole number of blocks.
        randomness: this step's u in (0, 1).
        groups, divisor, backward: see `tasks.stream_step.read_block`.
    """
    parts = list(blocks(document, model.sizes.block_length))
    state = begin(model, document, randomness, groups)
    nats = torch.zeros((), dtype=exact(document.weights.device), device=document.weights.device)
    named: list[dict[str, Tensor]] = []
    share = 1 / len(parts)  # of the auxiliary loss, which each block charges whole
    for block in parts:
        read = read_block(model, block, state, randomness, groups, divisor, backward, auxiliary=share)
        state = read.state
        nats = nats + read.nats
        named.append(read.statistics)
    assert state is not None
    statistics = {name: torch.stack([block[name] for block in named]).mean() for name in named[0]}
    return ReadDocument(state, nats, statistics, bool(divisor > 0))
