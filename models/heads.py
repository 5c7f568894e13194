"""Projections of multi-head attention: query, key, value, output; no bias, heads are contiguous slices of H * D."""

from __future__ import annotations

from torch import Tensor, nn

from models.mixer import Sizes


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
