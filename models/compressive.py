"""Compressive Transformer: old memories are pooled into fewer slots before they go (Rae et al. 2020, 1911.05507).

Two memories: L recent hidden states, and C = compress_size / c compressed ones, c the rate. At each block the oldest
T of [recent; block] are compressed by c into T / c new slots behind the compressed memory. Query t of the block (from
0) belongs to group g = t // c; it sees the compressed slots g .. g + C and the L positions before it, in one softmax
over C + 1 + L scores. Learned positions P = C + 1 + L in that order. After the block the last L recent and the last C
compressed states stay. All memories begin as zeros that are attended.

How T states become T / c slots, and what teaches a convolution to do it, is `models/compressors.py`.

State: `compressed` [B, C, E] and `recent` [B, L, E] as they were at the open block's start, and `open` [B, o, E],
what the stream has read of that block so far (o < T; empty between blocks). With `most_used` also `used` [B, L], the
weight that queries gave the recent states, summed, up to the open block's start; `using` [B, L + o], the same up to now
and for the open block's; and `clock` [B, 1], the time at which that began.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import BackboneSettings
from models.compressors import Compression, Convolution, Loss, MostUsed, compressor, content_attention, frozen
from models.errors import SettingsError, Unsupported
from models.heads import Heads
from models.kernels.attention import project
from models.kernels.bands import Band
from models.kernels.work import TILE, Lane
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, distances, unskew
from models.state import LayerState, without_caches

CARD = {
    "title": "Compressive Transformer",
    "family": "compressed memory",
    "paper": "Rae et al. 2020, 1911.05507",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#CC79A7",
    "marker": "D",
    "cost": "8 * E * H * D + 4 * E * H * D * Z / T + 4 * H * D * (Z + T) + 2 * H * D * (C + 1 + L) + K",
    "state": "(C + L) * E + U",
    "symbols": {
        "L": "memory_length",
        "C": "compress_size / rate",
        "Z": "C + T / rate + L",
        "K": "2 * E * E if compression == 'conv' or compression == 'dilated_conv' else 0",
        "U": "2 * L + 1 if compression == 'most_used' else 0",
    },
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
    compression: Compression = "mean"
    """How: mean or maximum of each group's raw states, a convolution of them, one that is dilated, or the most used."""
    compression_loss: Loss = "attention_reconstruction"
    """What a convolution is trained by: its own loss, that of a decoder, or the task's (bptt)."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings that reach `slots` positions back, half of them compressed. Nothing of it is forgotten: alive is 1."""
    if alive != 1:
        raise Unsupported("compressive forgets nothing within its reach")
    rate = Settings.rate
    recent = max(block_length, slots // 2)
    if slots - recent < rate:
        raise Unsupported(f"{slots} positions leave no room for compressed ones beside a block of {block_length}")
    return Settings(memory_length=recent, compress_size=(slots - recent) // rate * rate, rate=rate)


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
    if settings.compression_loss != Settings.compression_loss and "conv" not in settings.compression:
        raise SettingsError(
            f"{key}.compression_loss",
            f"is {settings.compression_loss}, and {settings.compression} has nothing to learn",
            "Drop it, or choose conv or dilated_conv.",
        )


class Method(Mixer):
    """Attention over recent states and compressed older ones."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.recent = settings.memory_length
        self.compressed = settings.compress_size // settings.rate  # C
        self.rate, self.block_length, self.width = settings.rate, sizes.block_length, sizes.width
        self.project = Heads(sizes)
        self.compressor = compressor(settings.compression, settings.compression_loss, sizes.width, settings.rate)
        self.counts = isinstance(self.compressor, MostUsed)
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        count = settings.compress_size // settings.rate + 1 + settings.memory_length
        return LearnedPositions(sizes.head_dim, count, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        state = {
            "compressed": self.zeros(batch, self.compressed, self.width),
            "recent": self.zeros(batch, self.recent, self.width),
            "open": self.zeros(batch, 0, self.width),
        }
        if self.counts:
            state |= {name: self.zeros(batch, self.recent) for name in ("used", "using")}
            state["clock"] = self.zeros(batch, 1, dtype=torch.long)
        return state

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        slots = sum(state[name].shape[1] for name in ("compressed", "recent", "open"))
        return torch.full((state["recent"].shape[0],), slots), slots

    def compress(self, state: LayerState) -> Tensor:
        """The slots [B, T / c, E] of the oldest T recent states."""
        usage = None
        if self.counts:
            age = torch.arange(self.recent, self.recent - self.block_length, -1, device=state["clock"].device)
            queries = torch.minimum(age - 1, state["clock"]).clamp(min=1)  # those that could see it
            usage = state["used"][:, : self.block_length] / queries
        slots: Tensor = self.compressor(state["recent"][:, : self.block_length], usage)
        return slots

    def horizon(self) -> int:
        return self.recent + self.compressed * self.rate

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        room = self.block_length - state["open"].shape[1]
        if x.shape[1] > room:  # the piece runs over the end of the open block
            return self.in_two(room, x, state, context)
        n, begun = x.shape[1], state["open"].shape[1]
        pooled = state["cache_pooled"] if context.caching and "cache_pooled" in state else self.compress(state)
        compressed = torch.cat([state["compressed"], pooled], dim=1)
        y, caches, given = self.mix(compressed, state, x, context)
        state = without_caches(state)
        loss = self.compression_loss(state["recent"][:, : self.block_length], x, context)
        if begun + n < self.block_length:
            stays = {**state, "open": torch.cat([state["open"], x.detach()], dim=1), **given}
            return Mixed(y, {**stays, **caches}, aux_loss=loss)
        history = torch.cat([state["recent"], state["open"], x.detach()], dim=1)  # [B, L + T, E]
        after = {
            "compressed": compressed[:, -self.compressed :].detach(),
            "recent": history[:, -self.recent :],
            "open": state["open"][:, :0],
        }
        if self.counts:
            after |= dict.fromkeys(("used", "using"), given["using"][:, -self.recent :])
            after["clock"] = state["clock"] + self.block_length
        return Mixed(y, {**after, **self.next_caches(caches, after, context)}, aux_loss=loss)

    def compression_loss(self, old: Tensor, x: Tensor, context: Context) -> Tensor | None:
        """What the states [B, T, E] that were compressed lose by it, in training; its gradient is the convolution's."""
        learned = self.compressor
        if not (self.training and isinstance(learned, Convolution) and learned.loss != "bptt"):
            return None
        if learned.loss == "auto_encoding":
            return learned.decoding_loss(old) * (x.shape[1] / self.block_length)
        assert isinstance(context.norm, nn.Module)
        with torch.no_grad():
            query = self.project.split(self.project.query(context.norm(x)))
        read = []
        for states in (old, learned.slots(old)):
            keys = frozen(context.norm, states)
            key, value = (frozen(part, keys) for part in (self.project.key, self.project.value))
            read.append(content_attention(query, self.project.split(key), self.project.split(value)))
        return functional.mse_loss(read[1], read[0]) * (x.shape[1] / self.block_length)

    def next_caches(self, caches: LayerState, after: LayerState, context: Context) -> LayerState:
        """The caches of the next open block, from those of the last."""
        return {}

    def mix(
        self, compressed: Tensor, state: LayerState, x: Tensor, context: Context
    ) -> tuple[Tensor, LayerState, LayerState]:
        """What x [B, n, E], the next of the open block, reads of compressed slots [B, C + T / c, E] and the state.

        And caches of all of them, where they are wanted; and `using` with the weight that x gives, where it is counted.
        """
        n, slots = x.shape[1], compressed.shape[1]
        keys = context.norm(torch.cat([compressed, state["recent"], state["open"], x], dim=1))
        query, key, value = self.project(keys, n)
        weight = self.weights(query, key, state["open"].shape[1], slots, context)
        given = {"using": self.used(state, weight, slots)} if self.counts else {}
        return self.project.merge(self.dropout(weight) @ value), {}, given

    def used(self, state: LayerState, weight: Tensor, slots: int) -> Tensor:
        """`using` [B, L + o + n] after queries that gave weights [B, H, n, slots + L + o + n]."""
        given = weight.detach()[..., slots:].mean(1).sum(1)
        return functional.pad(state["using"], (0, weight.shape[2])) + given

    def weights(self, query: Tensor, key: Tensor, begun: int, slots: int, context: Context) -> Tensor:
        """Attention weights [B, H, n, S] of queries [B, H, n, D] and keys [B, H, S, D], `slots` of them compressed."""
        assert isinstance(context.shared, LearnedPositions)
        n, keys = query.shape[2], key.shape[2]
        score = query @ key.mT + self.positions(query, context.shared.p, begun, keys)
        group = (begun + torch.arange(n, device=query.device)) // self.rate  # [n]
        offset = torch.arange(slots, device=query.device) - group[:, None]  # [n, slots]
        distance = distances(n, keys - slots, query.device)  # [n, L + o + n]
        seen = torch.cat(
            [(offset >= 0) & (offset <= self.compressed), (distance >= 1) & (distance <= self.recent)], dim=1
        )
        weight: Tensor = (score / query.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf).softmax(-1)
        return weight

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


class Fast(Method):
    """The same without stored scores."""

    def mix(
        self, compressed: Tensor, state: LayerState, x: Tensor, context: Context
    ) -> tuple[Tensor, LayerState, LayerState]:
        assert isinstance(context.shared, LearnedPositions)
        n, begun, block = x.shape[1], state["open"].shape[1], context.norm(x)
        slots, read = compressed.shape[1], self.recent + begun + n
        pooled = Band(
            lag=slots - self.compressed - 1,
            width=self.compressed + 1,
            size=slots,
            behind=read,
            rate=self.rate,
            begun=begun,
        )
        lanes = [Lane(slice(0, self.project.heads), (pooled, Band(lag=n, width=self.recent, size=read)))]
        p = context.shared.p
        positions = [p[:, : self.compressed + 1], p[:, self.compressed + 1 :]]
        memory = [compressed, state["recent"], state["open"]]
        if context.caching:
            key, value = self.project.grown(state, memory, block, context)
            y = self.project.attend_projected(block, key, value, lanes, positions)
            given = {"using": self.counted(block, key, state, slots, context)} if self.counts else {}
            return y, {"cache_key": key, "cache_value": value, "cache_pooled": compressed[:, self.compressed :]}, given
        sources = [*(context.norm(part) for part in memory), block]
        dropout = self.dropout.p if self.training else 0.0
        y = self.project.attend(block, sources, lanes, positions, dropout=dropout)
        given = {"using": self.counted(block, sources, state, slots, context)} if self.counts else {}
        return y, {}, given

    @torch.no_grad()
    def counted(
        self, block: Tensor, keys: Tensor | list[Tensor], state: LayerState, slots: int, context: Context
    ) -> Tensor:
        """`using` after the (normalised) block [B, n, E], whose weights are computed for some rows at a time.

        Args:
            keys: of all slots [B, S, H * D]; or the normalised states that they are projected from, in parts.
        """
        begun, n = state["open"].shape[1], block.shape[1]
        columns = slots + self.recent + begun + n
        rows, parts = max(1, TILE // (self.project.heads * n * columns)), []
        for first in range(0, block.shape[0], rows):
            part = slice(first, first + rows)
            query = self.project.split(self.project.query(block[part]))
            own = (
                keys[part]
                if isinstance(keys, Tensor)
                else torch.cat([project(states[part], self.project.key.weight) for states in keys], dim=1)
            )
            weight = self.weights(query, self.project.split(own), begun, slots, context)
            parts.append(self.used({"using": state["using"][part]}, weight, slots))
        return torch.cat(parts)

    def next_caches(self, caches: LayerState, after: LayerState, context: Context) -> LayerState:
        if not caches:
            return {}
        pooled = self.compress(after)
        states, fresh, left = context.norm(pooled), pooled.shape[1], self.compressed + pooled.shape[1]
        grown = {"cache_pooled": pooled}
        for name, weight in (("cache_key", self.project.key.weight), ("cache_value", self.project.value.weight)):
            stays, recent = caches[name][:, fresh:left], caches[name][:, caches[name].shape[1] - self.recent :]
            grown[name] = torch.cat([stays, project(states, weight), recent], dim=1)
        return grown


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method
