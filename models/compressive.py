"""Compressive Transformer: old memories are pooled into fewer slots before they go (Rae et al. 2020, 1911.05507).

Two memories: L recent hidden states, and C = compress_size / c compressed ones, c the rate. At each block the oldest
T of [recent; block] are compressed by c into T / c new slots behind the compressed memory. Query t of the block (from
0) belongs to group g = t // c; it sees the compressed slots g .. g + C and the L positions before it, in one softmax
over C + 1 + L scores. Learned positions P = C + 1 + L in that order. After the block the last L recent and the last C
compressed states stay. All memories begin as zeros that are attended.

State: `compressed` [B, C, E] and `recent` [B, L, E] as they were at the open block's start, and `open` [B, o, E],
what the stream has read of that block so far (o < T; empty between blocks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbone import BackboneSettings
from models.errors import SettingsError
from models.heads import Heads
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, distances, unskew
from models.state import LayerState

CARD = {
    "title": "Compressive Transformer",
    "family": "compressed memory",
    "paper": "Rae et al. 2020, 1911.05507",
    "impls": ["reference"],
    "colour": "#CC79A7",
    "marker": "D",
}


@dataclass(frozen=True)
class Settings:
    """Settings of `compressive`."""

    memory_length: int = 512
    """L, how many previous positions are seen as they are; at least the block length."""
    compress_size: int = 512
    """How many older positions the compressed memory stands for, C * c; a multiple of the rate."""
    rate: int = 4
    """c, how many states are compressed into one; divides the block length."""
    compression: Literal["mean"] = "mean"
    """How: the mean of the raw states."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    key = "method.compressive"
    if settings.rate < 1 or block_length % settings.rate:
        raise SettingsError(
            f"{key}.rate",
            f"the rate {settings.rate} does not divide the block length T = {block_length}",
            "Choose a rate that divides train.block_length.",
        )
    if settings.memory_length < block_length:
        raise SettingsError(
            f"{key}.memory_length",
            f"L = {settings.memory_length} is less than the block length T = {block_length}, so a compressed slot "
            "would hold a query's own future",
            "Give at least train.block_length.",
        )
    if settings.compress_size < settings.rate or settings.compress_size % settings.rate:
        raise SettingsError(
            f"{key}.compress_size",
            f"{settings.compress_size} is no multiple of the rate {settings.rate}",
            "Give a positive multiple of the rate.",
        )


class Method(Mixer):
    """Attention over recent states and pooled older ones."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.recent = settings.memory_length
        self.compressed = settings.compress_size // settings.rate  # C
        self.rate, self.block_length, self.width = settings.rate, sizes.block_length, sizes.width
        self.project = Heads(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        count = settings.compress_size // settings.rate + 1 + settings.memory_length
        return LearnedPositions(sizes.head_dim, count, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        return {
            "compressed": self.zeros(batch, self.compressed, self.width),
            "recent": self.zeros(batch, self.recent, self.width),
            "open": self.zeros(batch, 0, self.width),
        }

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        slots = sum(memory.shape[1] for memory in state.values())
        return torch.full((state["recent"].shape[0],), slots), slots

    def compress(self, old: Tensor) -> Tensor:
        """The states [B, T, E] pooled to [B, T / c, E]."""
        return old.view(old.shape[0], -1, self.rate, old.shape[2]).mean(2)

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        room = self.block_length - state["open"].shape[1]
        if x.shape[1] > room:  # the piece runs over the end of the open block
            return self.in_two(room, x, state, context)
        assert isinstance(context.shared, LearnedPositions)
        n, begun = x.shape[1], state["open"].shape[1]

        compressed = torch.cat([state["compressed"], self.compress(state["recent"][:, : self.block_length])], dim=1)
        history = torch.cat([state["recent"], state["open"], x], dim=1)  # [B, L + o + n, E]
        slots = compressed.shape[1]  # C + T / c
        keys = context.norm(torch.cat([compressed, history], dim=1))
        query, key, value = self.project(keys, n)

        score = query @ key.mT + self.positions(query, context.shared.p, begun, keys.shape[1])
        group = (begun + torch.arange(n, device=x.device)) // self.rate  # [n]
        offset = torch.arange(slots, device=x.device) - group[:, None]  # [n, C + T / c]
        distance = distances(n, history.shape[1], x.device)  # [n, L + o + n]
        seen = torch.cat(
            [(offset >= 0) & (offset <= self.compressed), (distance >= 1) & (distance <= self.recent)], dim=1
        )
        score = (score / query.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
        y = self.project.merge(self.dropout(score.softmax(-1)) @ value)

        if begun + n < self.block_length:
            return Mixed(y, {**state, "open": torch.cat([state["open"], x.detach()], dim=1)})
        return Mixed(
            y,
            {
                "compressed": compressed[:, -self.compressed :].detach(),
                "recent": history[:, -self.recent :].detach(),
                "open": state["open"][:, :0],
            },
        )

    def positions(self, query: Tensor, p: Tensor, begun: int, keys: int) -> Tensor:
        """Position terms [B, H, n, keys]: slot j and group g have column j - g of p, the L positions its last L."""
        n = query.shape[2]
        slots = self.compressed + self.block_length // self.rate
        group = (begun + torch.arange(n, device=query.device)) // self.rate
        column = (torch.arange(slots, device=query.device) - group[:, None]).clamp(0, self.compressed)  # [n, slots]
        by_slot = query @ p[:, : self.compressed + 1]  # [B, H, n, C + 1]
        to_compressed = by_slot.gather(-1, column.expand(*by_slot.shape[:2], -1, -1))
        to_recent = unskew(query @ p[:, self.compressed + 1 :])  # [B, H, n, L + n]
        between = to_recent.new_zeros(*to_recent.shape[:3], keys - slots - to_recent.shape[-1])
        return torch.cat([to_compressed, between, to_recent], dim=-1)
