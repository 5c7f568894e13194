"""Adaptive-Span: every head learns how far back it looks (Sukhbaatar et al. 2019, 1905.07799).

The softmax weight at distance d of head h is multiplied by a mask that is 1 up to the head's span z_h L and falls to 0
over a ramp of R steps, and the row is renormalised:

    m_h(d) = clamp((z_h L + 1 - d) / R + 1, 0, 1),     a' = a m / (sum a m + 1e-8)

z_h in [0, 1] is learned; its mean is charged with coefficient * L per layer. Keys beyond every head's reach are neither
computed nor cached: the softmax runs over the newest K positions only,

    need = max_h ceil(z_h L + R),     K = L - floor(max(0, L - need) / step) * step

State: `memory` [B, S, E], the layer's last inputs. S keeps up to RESERVE slots beyond K, because spans may grow; what
is missing after growth, and before the stream's start, counts as zero vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.heads import Heads
from models.kernels import work
from models.kernels.bands import Band
from models.kernels.bias import HeadRamp
from models.kernels.work import Lane
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, distances, position_scores
from models.state import LayerState, pad_left

CARD = {
    "title": "Adaptive-Span",
    "family": "learned window",
    "paper": "Sukhbaatar et al. 2019, 1905.07799",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#E69F00",
    "marker": "^",
    "cost": "8 * E * H * D + 4 * E * H * D * S / T + 4 * H * D * (S + T) + 2 * H * D * S",
    "state": "S * E",
}
RESERVE = 64


@dataclass(frozen=True)
class Settings:
    """Settings of `adaptive_span`."""

    max_span: int = 512
    """L, the longest span a head can learn."""
    ramp: int = 32
    """R, length of the linear ramp in steps."""
    coefficient: float = 5e-7
    """Weight of the span penalty: coefficient * L * mean of z, summed over layers."""
    initial_ratio: float = 0.0
    """z at initialisation, as a share of L."""
    trim_step: int = 64
    """Keys beyond every head's reach are left out in units of this many (`adapt_span_trim_step`)."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings whose heads all see the newest `alive` share of `slots` positions."""
    ramp = Settings.ramp
    reach = round(alive * slots)
    if reach <= ramp:
        raise Unsupported(f"{reach} positions are not longer than the ramp of {ramp}")
    # Half a step less than the whole number, which rounding could carry past it; the same positions have weight.
    return Settings(max_span=slots, ramp=ramp, initial_ratio=(reach - ramp - 0.5) / slots)


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    for name in ("max_span", "ramp", "trim_step"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"method.adaptive_span.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    if not 0 <= settings.initial_ratio <= 1:
        raise SettingsError(
            "method.adaptive_span.initial_ratio", f"is {settings.initial_ratio}", "Give a share in [0, 1]."
        )


class Method(Mixer):
    """Attention whose heads each learn their span."""

    statistic_units: ClassVar[dict[str, str]] = {"mean_span": "tokens"}

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        self.project = Heads(sizes)
        self.ratio = nn.Parameter(torch.full((sizes.heads,), settings.initial_ratio))  # z
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        return LearnedPositions(sizes.head_dim, settings.max_span, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        return {"memory": self.zeros(batch, 0, self.sizes.width)}

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        batch, held, _ = state["memory"].shape
        return torch.full((batch,), min(held, self.reach(self.ratio.tolist()))), held

    def horizon(self) -> int:
        return min(self.settings.max_span, self.window(self.ratio.tolist()) + RESERVE)

    def after_step(self) -> None:
        self.ratio.data.clamp_(0, 1)

    def numbers(self) -> Tensor:
        return self.ratio.detach()

    def ratios(self, context: Context) -> Sequence[float]:
        """z_h on the host."""
        return self.ratio.tolist() if context.numbers is None else context.numbers

    def reach(self, ratios: Sequence[float]) -> int:
        """How many previous positions the head that looks back farthest can see."""
        return math.ceil(max(ratios) * self.settings.max_span + self.settings.ramp)

    def window(self, ratios: Sequence[float]) -> int:
        """K, how many previous positions the softmax runs over."""
        longest, step = self.settings.max_span, self.settings.trim_step
        return longest - max(0, longest - self.reach(ratios)) // step * step

    def mask(self, distance: Tensor) -> Tensor:
        """m_h(d) for the distances [n, S], as [H, n, S]."""
        span = self.ratio[:, None, None] * self.settings.max_span
        return ((span + 1 - distance) / self.settings.ramp + 1).clamp(0, 1)

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        window = self.window(self.ratios(context))
        memory = pad_left(state["memory"], window)  # [B, >= K, E]
        kept = min(self.settings.max_span, window + RESERVE)
        y, caches = self.mix(memory[:, memory.shape[1] - window :], x, state, context)
        mean_span = self.ratio.mean() * self.settings.max_span
        return Mixed(
            y,
            {"memory": torch.cat([memory, x.detach()], dim=1)[:, -kept:], **caches},
            aux_loss=self.settings.coefficient * mean_span * x.shape[1] / self.sizes.block_length,
            statistics={"mean_span": mean_span},
        )

    def mix(self, memory: Tensor, x: Tensor, state: LayerState, context: Context) -> tuple[Tensor, LayerState]:
        """What the block x [B, n, E] reads of itself and of the memory [B, K, E]; and caches, where they are wanted."""
        assert isinstance(context.shared, LearnedPositions)
        n, window = x.shape[1], memory.shape[1]
        keys = context.norm(torch.cat([memory, x], dim=1))  # [B, K + n, E]
        query, key, value = self.project(keys, n)

        positions = position_scores(query, context.shared.p[:, -window:], keys.shape[1])
        score = (query @ key.mT + positions) / query.shape[-1] ** 0.5  # [B, H, n, K + n]
        distance = distances(n, keys.shape[1], x.device)
        seen = (distance >= 1) & (distance <= window)
        weight = score.masked_fill(~seen, -torch.inf).softmax(-1) * self.mask(distance)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-8)
        return self.project.merge(self.dropout(weight) @ value), {}


class Fast(Method):
    """The same without stored scores; each head reads no farther than its own span reaches."""

    differs_by = 1e-6  # the 1e-8 in the denominator

    def lanes(self, n: int, window: int, ratios: Sequence[float]) -> list[Lane]:
        """Heads that read n queries' keys at once, and how far: each head by itself where it is worth it."""
        longest, ramp = self.settings.max_span, self.settings.ramp
        widths = [min(window, int(z * longest + ramp) + 1) for z in ratios]
        heads = len(widths)
        if heads * n * (max(widths) + n) <= work.TILE:
            return [Lane(slice(0, heads), (Band(lag=n, width=max(widths)),))]
        return [Lane(slice(head, head + 1), (Band(lag=n, width=width),)) for head, width in enumerate(widths)]

    def mix(self, memory: Tensor, x: Tensor, state: LayerState, context: Context) -> tuple[Tensor, LayerState]:
        assert isinstance(context.shared, LearnedPositions)
        n, block, positions = x.shape[1], context.norm(x), [context.shared.p]
        lanes = self.lanes(n, memory.shape[1], self.ratios(context))
        bias: dict[str, Any] = {"bias": HeadRamp(self.settings.max_span, self.settings.ramp), "of_bias": [self.ratio]}
        if context.caching:
            key, value = self.project.grown(state, [memory], block, context)
            y = self.project.attend_projected(block, key, value, lanes, positions, **bias)
            return y, {"cache_key": key[:, n:], "cache_value": value[:, n:]}
        dropout = self.dropout.p if self.training else 0.0
        y = self.project.attend(block, [context.norm(memory), block], lanes, positions, dropout=dropout, **bias)
        return y, {}


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method
