"""Full attention: a softmax over the whole past, nothing forgotten (Vaswani et al. 2017, 1706.03762).

The quality ceiling, for the L it is given, and the cost to beat. With L (`max_span`) it has a learned position vector
for each of its P = L distances, and gives what `transformer_xl` gives at the same length, through PyTorch's fused
attention. Without, its reach grows with the stream while P = T: then it is the limit of Expire-Span when no span ever
ends. `memory: none` is the floor: each block alone, as if the stream began anew at every block.

State: `memory` [B, S, E], the layer's inputs so far, at most L of them; `held` [B, S], which slots a row really has. It
begins with P zero vectors that are attended. With `memory: none` it holds only what was read of the open block,
which stands behind those zeros, and is empty between blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.heads import Heads
from models.kernels.bands import Band
from models.kernels.work import Lane
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, distances, position_scores
from models.state import LayerState, held_rows

CARD = {
    "title": "Full attention",
    "family": "everything kept",
    "paper": "Vaswani et al. 2017, 1706.03762",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#000000",
    "marker": "o",
    "cost": "8 * E * H * D + 4 * E * H * D * L / T + 4 * H * D * (L + T) + 2 * H * D * P",
    "state": "S * (E + 1)",
    "symbols": {
        "L": "min(max_span or T, T) if memory == 'none' else (max_span or S)",
        "P": "0 if positions == 'none' else min(max_span or T, L)",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `full_attention`."""

    memory: Literal["all", "none"] = "all"
    """Keep the past; or forget everything at each block's end, which is the vanilla fixed-window Transformer."""
    max_span: int | None = None
    """L, how many previous positions are kept and seen; all of them if not given."""
    capacity: int = 65536
    """Without max_span: the number of slots at which the run stops with an error instead of forgetting silently."""
    positions: Literal["learned", "none"] = "learned"
    """Learned vectors for the last L distances (without max_span or memory: T), or no positions at all."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings that keep `slots` positions. Nothing in it can be forgotten: `alive` must be 1."""
    if alive != 1:
        raise Unsupported("full_attention forgets nothing within its span")
    return Settings(max_span=slots)


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    if settings.max_span is not None and settings.max_span < 1:
        raise SettingsError("method.full_attention.max_span", f"is {settings.max_span}", "Give at least 1, or null.")
    if settings.max_span is None and settings.capacity < 2 * block_length:
        raise SettingsError(
            "method.full_attention.capacity",
            f"{settings.capacity} is less than two blocks",
            "Raise it, or set max_span.",
        )


class Method(Mixer):
    """Attention to everything before."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        self.near = near_positions(settings, sizes)  # P
        self.project = Heads(sizes)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module | None:
        assert isinstance(settings, Settings)
        if settings.positions == "none":
            return None
        return LearnedPositions(sizes.head_dim, near_positions(settings, sizes), settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        if self.settings.memory == "none":
            return {"memory": self.zeros(batch, 0, self.sizes.width), "held": self.zeros(batch, 0, dtype=torch.bool)}
        return self.beginning(batch)

    def beginning(self, batch: int) -> LayerState:
        """The P zero vectors that a stream begins with."""
        return {
            "memory": self.zeros(batch, self.near, self.sizes.width),
            "held": ~self.zeros(batch, self.near, dtype=torch.bool),
        }

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        return state["held"].sum(1), state["held"].shape[1]

    def horizon(self) -> int:
        if self.settings.memory == "none":
            return 0
        return self.settings.max_span or self.settings.capacity

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        memory, held = state["memory"], state["held"]
        begun = memory.shape[1]  # where memory is none: tokens of the open block
        if self.settings.memory == "none":
            room = self.sizes.block_length - begun
            if x.shape[1] > room:  # the piece runs over the end of the open block
                return self.in_two(room, x, state, context)
            before = self.beginning(x.shape[0])
            memory, held = torch.cat([before["memory"], memory], dim=1), torch.cat([before["held"], held], dim=1)
        history = torch.cat([memory, x], dim=1)  # [B, S + n, E]
        held = functional.pad(held, (0, x.shape[1]), value=True)  # [B, S + n]
        y, caches = self.mix(history, held, x, state, context)
        after = self.next_state(history, held, begun + x.shape[1])
        slots = after["memory"].shape[1]
        return Mixed(y, {**after, **{name: cache[:, cache.shape[1] - slots :] for name, cache in caches.items()}})

    def mix(
        self, history: Tensor, held: Tensor, x: Tensor, state: LayerState, context: Context
    ) -> tuple[Tensor, LayerState]:
        """What the block x [B, n, E] reads of the history [B, S + n, E] that ends with it, as far as it is held.

        And, where caching is wanted and done, the history's keys and values.
        """
        n, longest = x.shape[1], self.settings.max_span
        keys = context.norm(history)
        query, key, value = self.project(keys, n)

        distance = distances(n, keys.shape[1], x.device)
        seen = distance >= 1
        if longest is not None:
            seen = seen & (distance <= longest)
        mask = seen & held[:, None, None, :]  # [B, 1, n, S + n]
        if isinstance(context.shared, LearnedPositions):
            position = position_scores(query, context.shared.p, keys.shape[1]) / query.shape[-1] ** 0.5
            mask = position.masked_fill(~mask, -torch.inf)
        dropout = self.sizes.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.project.merge(y), {}

    def next_state(self, history: Tensor, held: Tensor, read: int) -> LayerState:
        """What stays of the history [B, S + n, E] when `read` tokens of it are the open block's."""
        if self.settings.memory == "none":
            begin = history.shape[1] - (0 if read == self.sizes.block_length else read)
            history, held = history[:, begin:], held[:, begin:]
        elif self.settings.max_span is not None:
            history, held = history[:, -self.settings.max_span :], held[:, -self.settings.max_span :]
        elif history.shape[1] > self.settings.capacity:
            raise RuntimeError(
                f"method.full_attention: the stream is longer than the capacity of {self.settings.capacity} slots. Set "
                "method.full_attention.max_span to forget what is older, or raise method.full_attention.capacity."
            )
        return {"memory": history.detach(), "held": held}


class Fast(Method):
    """The same without stored scores."""

    def mix(
        self, history: Tensor, held: Tensor, x: Tensor, state: LayerState, context: Context
    ) -> tuple[Tensor, LayerState]:
        n, block, memory = x.shape[1], context.norm(x), history[:, : -x.shape[1]].detach()
        lanes = [Lane(slice(0, self.project.heads), (Band(lag=n, width=self.settings.max_span),))]
        positions = [context.shared.p if isinstance(context.shared, LearnedPositions) else None]
        if context.caching and self.settings.memory == "all":
            key, value = self.project.grown(state, [memory], block, context)
            (seen, values), lengths = held_rows(held, key, value)
            y = self.project.attend_projected(block, seen, values, lanes, positions, lengths=lengths)
            return y, {"cache_key": key, "cache_value": value}
        older, lengths = held_rows(held[:, :-n], context.norm(memory))
        dropout = self.sizes.dropout if self.training else 0.0
        y = self.project.attend(block, [*older, block], lanes, positions, lengths=[lengths, None], dropout=dropout)
        return y, {}


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method


def near_positions(settings: Settings, sizes: Sizes) -> int:
    """P: distances that have a position vector, and zero vectors that memory begins with."""
    longest = settings.max_span or sizes.block_length
    return min(longest, sizes.block_length) if settings.memory == "none" else longest
