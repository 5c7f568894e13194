"""Projections of multi-head attention: query, key, value, output; no bias, heads are contiguous slices of H * D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.kernels.attention import attend, attend_projected, project
from models.kernels.work import Lane
from models.mixer import Context, Sizes
from models.state import LayerState


class Heads(nn.Module):
    """The four projections of one layer.

    Args:
        sizes: E, H and D are read; in a pre-norm backbone the output projection begins divided by sqrt(2 N).
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        inner = sizes.heads * sizes.head_dim
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.width, inner, bias=False)
        self.key = nn.Linear(sizes.width, inner, bias=False)
        self.value = nn.Linear(sizes.width, inner, bias=False)
        self.output = nn.Linear(inner, sizes.width, bias=False)
        if sizes.pre_norm:
            self.output.weight.data.div_((2 * sizes.layers) ** 0.5)

    def forward(self, keys: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query [B, H, n, D], key and value [B, H, S, D] of hidden states [B, S, E]; the last n of them ask."""
        return self.split(self.query(keys[:, -n:])), self.split(self.key(keys)), self.split(self.value(keys))

    def split(self, x: Tensor) -> Tensor:
        """[B, S, H * D] as [B, H, S, D]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """[B, H, n, D] as [B, n, H * D], projected to [B, n, E]."""
        y: Tensor = self.output(x.transpose(1, 2).flatten(-2))
        return y

    def attend(
        self,
        x: Tensor,
        sources: Sequence[Tensor],
        lanes: Sequence[Lane],
        positions: Sequence[Tensor | None],
        **more: Any,
    ) -> Tensor:
        """What the block x [B, n, E] reads, [B, n, E]: `models.kernels.attention.attend` of its queries."""
        query = self.split(self.query(x))
        y: Tensor = self.output(attend(query, sources, self.key.weight, self.value.weight, lanes, positions, **more))
        return y

    def attend_projected(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        lanes: Sequence[Lane],
        positions: Sequence[Tensor | None],
        **more: Any,
    ) -> Tensor:
        """The same with keys and values of memory and block that are there already."""
        query = self.split(self.query(x))
        y: Tensor = self.output(attend_projected(query, key, value, lanes, positions, **more))
        return y

    def grown(
        self, state: LayerState, memory: Sequence[Tensor], block: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S + n, H * D] of a memory, in parts [B, S, E], and of the (normalised) block behind it.

        Those of the memory are taken from the state where they are there, and projected where not.
        """
        slots = sum(part.shape[1] for part in memory)
        found = []
        for name, weight in (("cache_key", self.key.weight), ("cache_value", self.value.weight)):
            if name in state and state[name].shape[1] >= slots:
                older = [state[name][:, state[name].shape[1] - slots :]]
            else:
                older = [project(context.norm(part), weight) for part in memory]
            found.append(torch.cat([*older, project(block, weight)], dim=1))
        return found[0], found[1]
