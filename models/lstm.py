"""LSTM: a recurrent network with learned gates as the mixing rule of a block (Hochreiter & Schmidhuber 1997).

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (W x_t + b + U r_{t-1} + b')
    c_t = f c_{t-1} + i g,    r_t = o tanh(c_t),    y_t = W_o r_t

PyTorch's `nn.LSTM`. `hidden` is by default what gives the layer as many parameters as an attention layer has.

State: `output` [B, 1, hidden], r, and `cell` [B, 1, hidden], c, after the last token read; zeros at a stream's start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.mixer import Context, Mixed, Mixer, Sizes
from models.state import LayerState

CARD = {
    "title": "LSTM",
    "family": "recurrent",
    "paper": "Hochreiter & Schmidhuber 1997",
    "impls": ["reference"],
    "colour": "#A65628",
    "marker": "v",
    "cost": "8 * R * (E + R) + 2 * R * E",
    "state": "2 * R",
    "symbols": {
        "R": "hidden or round((((5 * E + 8) ** 2 + 64 * E * H * D) ** 0.5 - 5 * E - 8) / 8)",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `lstm`."""

    hidden: int | None = None
    """Units; if not given, so many that the layer has the parameters of an attention layer."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """The default, whatever the context: the state has one size. Nothing of it goes: `alive` must be 1."""
    if alive != 1:
        raise Unsupported("lstm has one state, which is always there")
    return Settings()


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work."""
    if settings.hidden is not None and settings.hidden < 1:
        raise SettingsError("method.lstm.hidden", f"is {settings.hidden}", "Give at least 1, or null.")


class Method(Mixer):
    """One layer of an LSTM, projected to the model's width."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.hidden = settings.hidden or as_attention(sizes)
        self.recurrent = nn.LSTM(sizes.width, self.hidden, batch_first=True)
        self.output = nn.Linear(self.hidden, sizes.width, bias=False)  # W_o
        if sizes.pre_norm:
            self.output.weight.data.div_((2 * sizes.layers) ** 0.5)

    def init_state(self, batch: int) -> LayerState:
        return {name: self.zeros(batch, 1, self.hidden) for name in ("output", "cell")}

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        return torch.ones(state["cell"].shape[0]), 1

    def horizon(self) -> int:
        return 1

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        kind = self.output.weight.dtype
        before = tuple(state[name].to(kind).transpose(0, 1).contiguous() for name in ("output", "cell"))
        with torch.autocast(x.device.type, enabled=False):  # in half precision a cell could not add up many small steps
            r, (output, cell) = self.recurrent(context.norm(x).to(kind), before)
        after = {"output": output.transpose(0, 1).detach(), "cell": cell.transpose(0, 1).detach()}
        return Mixed(self.output(r), after)


def as_attention(sizes: Sizes) -> int:
    """Units with which 4 h (E + h) + 8 h + h E is nearest to the 4 E H D parameters of an attention layer."""
    width, wanted = sizes.width, 4 * sizes.width * sizes.heads * sizes.head_dim
    linear = 5 * width + 8
    return max(1, round((math.sqrt(linear**2 + 16 * wanted) - linear) / 8))
