"""How the Compressive Transformer makes T / c slots of T states (Rae et al. 2020, sections 3.1 and 3.2).

    mean, max       of each group of c states, channel by channel
    conv            s_j = b + sum_{k<c} W_k x_{jc+k}
    dilated_conv    s_j = b + sum_{k<c} W_k x_{jc+c-1-2(c-1-k)}, zeros before the first state
    most_used       the T / c states that queries gave most weight to

The convolutions learn by a loss of their own, and by nothing else: `attention_reconstruction`, the squared difference
of what the block's queries read, by content alone, of the old states and of their slots; or `auto_encoding`, that of
the old states and what a transposed convolution makes of the slots. With `bptt` there is none, and the task's gradient
reaches them through the slots of the block that they were made in.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from models.choice import greatest

Compression = Literal["mean", "max", "conv", "dilated_conv", "most_used"]
Loss = Literal["attention_reconstruction", "auto_encoding", "bptt"]


class Pool(nn.Module):
    """Mean or maximum of c states."""

    def __init__(self, rate: int, largest: bool) -> None:
        super().__init__()
        self.rate, self.largest = rate, largest

    def forward(self, old: Tensor, usage: Tensor | None) -> Tensor:
        """The slots [B, T / c, E] of the states [B, T, E]."""
        groups = old.view(old.shape[0], -1, self.rate, old.shape[2])
        return groups.amax(2) if self.largest else groups.mean(2)


class MostUsed(nn.Module):
    """The states of greatest usage, in order of time."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, old: Tensor, usage: Tensor | None) -> Tensor:
        """The slots [B, T / c, E] of the states [B, T, E] with their usage [B, T]."""
        assert usage is not None
        kept = greatest(usage, old.shape[1] // self.rate)
        return old.gather(1, kept[..., None].expand(-1, -1, old.shape[2]))


class Convolution(nn.Module):
    """A convolution of stride c, and where it is to be learned by decoding, the decoder."""

    def __init__(self, width: int, rate: int, dilated: bool, loss: Loss) -> None:
        super().__init__()
        self.rate, self.dilation, self.loss = rate, 2 if dilated else 1, loss
        self.convolve = nn.Conv1d(width, width, rate, stride=rate, dilation=self.dilation)
        self.decode = nn.ConvTranspose1d(width, width, rate, stride=rate) if loss == "auto_encoding" else None

    def forward(self, old: Tensor, usage: Tensor | None) -> Tensor:
        """The slots [B, T / c, E] of the states [B, T, E]; with a gradient to the convolution where `bptt` asks."""
        slots = self.slots(old)
        return slots if self.loss == "bptt" else slots.detach()

    def slots(self, old: Tensor) -> Tensor:
        """The same, with a gradient to the convolution."""
        before = (self.dilation - 1) * (self.rate - 1)
        made: Tensor = self.convolve(functional.pad(old.mT, (before, 0)))
        return made.mT

    def decoding_loss(self, old: Tensor) -> Tensor:
        """The mean squared difference of the states [B, T, E] and what is decoded from their slots."""
        assert self.decode is not None
        return functional.mse_loss(self.decode(self.slots(old).mT).mT, old.detach())


def compressor(compression: Compression, loss: Loss, width: int, rate: int) -> nn.Module:
    """The module that makes slots of states."""
    if compression == "most_used":
        return MostUsed(rate)
    if compression in ("conv", "dilated_conv"):
        return Convolution(width, rate, compression == "dilated_conv", loss)
    return Pool(rate, compression == "max")


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """What a module makes of x, with a gradient to x and none to the module's parameters."""
    made: Tensor = functional_call(module, {name: p.detach() for name, p in module.named_parameters()}, (x,))
    return made


def content_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What queries [B, H, n, D] read by content alone of keys and values [B, H, S, D]."""
    return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1) @ value
