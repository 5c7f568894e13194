"""MLP-Mixer made causal: a small network over the window of the last L positions (Tolstikhin et al. 2021, 2105.01601).

    y_{t,e} = sum_k c_k gelu( b_k + sum_{d=0}^{L-1} A_{kd} h_{t-L+1+d, e} ) + b'

The Mixer's token-mixing network, L positions to `hidden` units to one, the same for all channels e, at every t. As
matrices over the stream both of its layers are lower-triangular (and banded), so nothing later is seen. Mixing of
channels is the backbone's feed-forward network. It has far fewer parameters than attention, which a report says beside
its name.

State: `memory` [B, L - 1, E], the layer's last inputs; zeros at a stream's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.mixer import Context, Mixed, Mixer, Sizes
from models.state import LayerState

CARD = {
    "title": "MLP-Mixer",
    "family": "fixed weights",
    "paper": "Tolstikhin et al. 2021, 2105.01601",
    "impls": ["reference"],
    "colour": "#637939",
    "marker": "h",
    "cost": "2 * K * (L + C) * E",
    "state": "(L - 1) * E",
    "symbols": {
        "L": "window",
        "K": "hidden",
        "C": "(32 ** 2 * (T // 32) + (T % 32) ** 2) / T",
    },
}


CHUNK = 32
"""Positions that are mixed by one product of matrices: the more they are, the more of its band is zeros."""


@dataclass(frozen=True)
class Settings:
    """Settings of `mlp_mixer`."""

    window: int = 128
    """L, how many positions are mixed, the query's own among them."""
    hidden: int = 64
    """Units of the time-mixing network."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings that mix `slots` earlier positions. Nothing of them is forgotten: `alive` must be 1."""
    if alive != 1:
        raise Unsupported("mlp_mixer forgets nothing within its window")
    return Settings(window=slots + 1)


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work."""
    for name in ("window", "hidden"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"method.mlp_mixer.{name}", f"is {getattr(settings, name)}", "Give at least 1.")


class Method(Mixer):
    """A network over the last positions, channel by channel."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.window, self.width = settings.window, sizes.width
        self.first = nn.Linear(settings.window, settings.hidden)  # A, b
        self.second = nn.Linear(settings.hidden, 1)  # c, b'
        if sizes.pre_norm:
            self.second.weight.data.div_((2 * sizes.layers) ** 0.5)
            self.second.bias.data.div_((2 * sizes.layers) ** 0.5)

    def init_state(self, batch: int) -> LayerState:
        return {"memory": self.zeros(batch, self.window - 1, self.width)}

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        batch, slots, _ = state["memory"].shape
        return torch.full((batch,), slots), slots

    def horizon(self) -> int:
        return self.window - 1

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        history = torch.cat([state["memory"], x], dim=1)  # [B, L - 1 + n, E]
        channels, earlier = context.norm(history).mT, self.window - 1
        y = torch.cat([self._mix(piece) for piece in pieces(channels, x.shape[1])], dim=2)
        memory = history[:, history.shape[1] - earlier :]
        return Mixed(y.mT, {"memory": memory.detach()})

    def _mix(self, channels: Tensor) -> Tensor:
        """[B, E, n]: what the network makes of channels [B, E, L - 1 + n] at the last n positions."""
        weights = band(self.first.weight, channels.shape[2] - self.window + 1)
        hidden = functional.linear(channels, weights.flatten(0, 1)).view(*channels.shape[:2], *weights.shape[:2])
        y: Tensor = self.second(functional.gelu(hidden + self.first.bias))  # of hidden [B, E, n, K]
        return y.squeeze(-1)


def pieces(channels: Tensor, n: int) -> Iterator[Tensor]:
    """The last n positions of channels [B, E, L - 1 + n], at most CHUNK at once, with the L - 1 before each."""
    earlier = channels.shape[2] - n
    for begin in range(0, n, CHUNK):
        yield channels[:, :, begin : begin + min(CHUNK, n - begin) + earlier]


def band(weights: Tensor, n: int) -> Tensor:
    """[n, K, L - 1 + n]: weights [K, L] moved on by one position per row, zeros beside them."""
    padded = functional.pad(weights, (n - 1, n - 1))
    return padded.unfold(1, weights.shape[1] + n - 1, 1).flip(1).transpose(0, 1)
