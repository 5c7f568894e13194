"""Models of a few thousand weights, built as a cell builds them, to be loaded by path (`models.registry.load_file`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.backbone import Backbone, BackboneSettings, Output, build
from models.registry import METHODS
from models.state import State

VOCABULARY = 13
T = 8


def make(
    method: str,
    settings: dict[str, Any] | None = None,
    block_length: int = T,
    vocabulary: int = VOCABULARY,
    impl: str = "reference",
    **backbone: Any,
) -> Backbone:
    """A model of `method`; `backbone` changes single fields of two small layers. It begins the same at every call."""
    torch.manual_seed(3)
    around = BackboneSettings(**{"layers": 2, "width": 16, "feedforward": 24, "heads": 2, **backbone})
    values = METHODS.load(method).Settings(**(settings or {}))
    encoder, head = nn.Embedding(vocabulary, around.width), nn.Linear(around.width, vocabulary)
    return build(method, values, around, block_length, encoder, head, impl)


def moved(model: Backbone, by: float = 0.3) -> Backbone:
    """The model in float64 and evaluation mode, away from initial values that hide a term, such as w = 0."""
    model.double().eval()
    for parameter in model.parameters():
        parameter.data.add_(by * torch.randn_like(parameter))
    model.after_step()
    return model


def blocks(total: int, size: int) -> list[int]:
    """`total` tokens in pieces of `size`, the last one ragged."""
    return [size] * (total // size) + ([total % size] if total % size else [])


def read(model: Backbone, tokens: Tensor, sizes: list[int] | None = None, **extra: Any) -> tuple[list[Output], State]:
    """What the model makes of a stream [B, n] read in pieces (by default the configured blocks), and the last state."""
    sizes = sizes or blocks(tokens.shape[1], model.sizes.block_length)
    assert sum(sizes) == tokens.shape[1]
    state, outputs, begin = model.init_state(tokens.shape[0]), [], 0
    for size in sizes:
        outputs.append(model(tokens[:, begin : begin + size], state, **extra))
        state, begin = outputs[-1].state, begin + size
    return outputs, state


def logits(outputs: list[Output]) -> Tensor:
    """[B, n, V] of a whole stream."""
    return torch.cat([output.y for output in outputs], dim=1)
