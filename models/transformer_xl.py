"""Transformer-XL: attention to a fixed number of previous positions, memory carried from block to block.

Two variants of the same rule. `positions: learned` is the baseline of the Expire-Span paper (Sukhbaatar et al. 2021):
each query sees exactly the L positions before it, one learned vector per distance. `positions: sinusoidal` is the model
of Dai et al. 2019 (1901.02860) with the backbone details it was published with: scaled and tied embedding, one QKV
matrix, a query that sees itself, dropout after embedding, sublayers and the last layer, and the score

    ((q + u) . k_i + (q + v) . W_r r_d) / sqrt(D),    r_d = [sin(d f_k), cos(d f_k)],   f_k = 10000^(-2k/E)

at distance d = t - i, where u, v are shared by all layers and W_r belongs to the layer. Not as published: no dropout on
r_d, one dropout rate for attention and all else, linear layers at PyTorch's initialisation.

State: `memory` [B, S, E], the layer's last inputs. Learned: S = L from the start, zeros that are attended.
Sinusoidal: S grows from 0 to L, and `held` [B, S] says which slots a row really has.
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
from models.kernels.attention import attend, attend_projected, project
from models.kernels.bands import Band
from models.kernels.work import Lane
from models.mixer import BackboneOptions, Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, distances, position_scores
from models.state import LayerState, held_rows

CARD = {
    "title": "Transformer-XL",
    "family": "fixed window",
    "paper": "Dai et al. 2019, 1901.02860; learned positions: Sukhbaatar et al. 2021, 2105.06548",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#0072B2",
    "marker": "s",
    "cost": "8 * E * H * D + 4 * E * H * D * L / T + 4 * H * D * (L + T) + P",
    "state": "L * (E if positions == 'learned' else E + 1)",
    "symbols": {
        "L": "memory_length",
        "P": "2 * H * D * (L if positions == 'learned' else L + T + E * L / T + E * (L + T) / (T * B))",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `transformer_xl`."""

    memory_length: int = 512
    """L, how many previous positions are seen."""
    positions: Literal["learned", "sinusoidal"] = "learned"
    """Learned vectors per distance, or the sinusoids and backbone details of Dai et al. 2019."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""
    same_length: bool = False
    """Sinusoidal only: every query sees the same number of positions, itself included."""
    clamp_len: int = 0
    """Sinusoidal only: distances beyond this one count as this one; 0 for no limit."""
    tie_output: bool = True
    """Sinusoidal only: the head's weight is the embedding."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings that keep `slots` positions. Nothing of them is forgotten: `alive` must be 1."""
    if alive != 1:
        raise Unsupported("transformer_xl forgets nothing within its length")
    return Settings(memory_length=slots)


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    key = "method.transformer_xl"
    if settings.memory_length < 1:
        raise SettingsError(f"{key}.memory_length", f"is {settings.memory_length}", "Give at least 1.")
    if settings.positions == "learned" and (settings.same_length or settings.clamp_len):
        raise SettingsError(
            f"{key}.positions", "is learned, and same_length and clamp_len are the sinusoidal variant's", "Drop them."
        )
    if settings.positions == "sinusoidal" and backbone.width % 2:
        raise SettingsError("backbone.width", f"{backbone.width} is odd", "Sinusoidal positions need an even width.")


class LearnedWindow(Mixer):
    """Each query sees exactly the L positions before it."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.length, self.width = settings.memory_length, sizes.width
        self.project = Heads(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        return LearnedPositions(sizes.head_dim, settings.memory_length, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        return {"memory": self.zeros(batch, self.length, self.width)}

    def horizon(self) -> int:
        return self.length

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        batch, slots, _ = state["memory"].shape
        return torch.full((batch,), slots), slots

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        assert isinstance(context.shared, LearnedPositions)
        n = x.shape[1]
        history = torch.cat([state["memory"], x], dim=1)  # [B, L + n, E]
        keys = context.norm(history)
        query, key, value = self.project(keys, n)

        score = query @ key.mT + position_scores(query, context.shared.p, keys.shape[1])  # [B, H, n, L + n]
        distance = distances(n, keys.shape[1], x.device)
        seen = (distance >= 1) & (distance <= self.length)
        score = (score / query.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
        y = self.dropout(score.softmax(-1)) @ value
        return Mixed(self.project.merge(y), {"memory": history[:, -self.length :].detach()})


class FastLearnedWindow(LearnedWindow):
    """The same without stored scores."""

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        assert isinstance(context.shared, LearnedPositions)
        memory, n = state["memory"], x.shape[1]
        block, after = context.norm(x), {"memory": torch.cat([memory[:, n:], x[:, -self.length :].detach()], dim=1)}
        sees = ([Lane(slice(0, self.project.heads), (Band(lag=n, width=self.length),))], [context.shared.p])
        if context.caching:
            key, value = self.project.grown(state, [memory], block, context)
            after |= {"cache_key": key[:, -self.length :], "cache_value": value[:, -self.length :]}
            return Mixed(self.project.attend_projected(block, key, value, *sees), after)
        dropout = self.dropout.p if self.training else 0.0
        return Mixed(self.project.attend(block, [context.norm(memory), block], *sees, dropout=dropout), after)


class SharedBiases(nn.Module):
    """u and v of Dai et al. 2019, section 3.3, terms (c) and (d) of the relative score; [H, D], for all layers."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(heads, head_dim) * 0.02)
        self.v = nn.Parameter(torch.randn(heads, head_dim) * 0.02)


class SinusoidalWindow(Mixer):
    """Transformer-XL as Dai et al. published it."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.length, self.width = settings.memory_length, sizes.width
        self.same_length, self.clamp_len = settings.same_length, settings.clamp_len
        self.heads, self.head_dim = sizes.heads, sizes.head_dim
        inner = sizes.heads * sizes.head_dim
        self.qkv = nn.Linear(sizes.width, 3 * inner, bias=False)
        self.relative = nn.Linear(sizes.width, inner, bias=False)  # W_r
        self.output = nn.Linear(inner, sizes.width, bias=False)
        if sizes.pre_norm:
            self.output.weight.data.div_((2 * sizes.layers) ** 0.5)
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        return SharedBiases(sizes.heads, sizes.head_dim)

    @classmethod
    def backbone_options(cls, settings: object) -> BackboneOptions:
        assert isinstance(settings, Settings)
        return BackboneOptions(
            scale_embedding=True, tie_output=settings.tie_output, dropout_outside=True, final_norm=False
        )

    def init_state(self, batch: int) -> LayerState:
        return {"memory": self.zeros(batch, 0, self.width), "held": self.zeros(batch, 0, dtype=torch.bool)}

    def horizon(self) -> int:
        return self.length

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        return state["held"].sum(1), state["held"].shape[1]

    def sinusoids(self, distance: Tensor) -> Tensor:
        """r_d for the distances [K], as [K, E]."""
        k = torch.arange(0, self.width, 2, device=distance.device, dtype=self.relative.weight.dtype)
        angle = distance[:, None].to(k.dtype) * 10000 ** (-k / self.width)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        assert isinstance(context.shared, SharedBiases)
        n = x.shape[1]
        history = torch.cat([state["memory"], x], dim=1)  # [B, S + n, E]
        held = functional.pad(state["held"], (0, n), value=True)  # [B, S + n]
        qkv = self.qkv(context.norm(history)).unflatten(-1, (3, self.heads, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, S + n, D]
        query = query[:, :, -n:]

        slots = history.shape[1]
        steps = torch.arange(slots - 1, -1, -1, device=x.device)  # distance of each column from the block's last token
        if self.clamp_len > 0:
            steps = steps.clamp(max=self.clamp_len)
        relative = self.relative(self.sinusoids(steps)).view(slots, self.heads, self.head_dim)  # W_r r_d
        content = (query + context.shared.u[:, None]) @ key.mT  # [B, H, n, S + n]
        by_steps = (query + context.shared.v[:, None]) @ relative.permute(1, 2, 0)  # columns: distance S + n - 1 .. 0
        distance = distances(n, slots, x.device)  # [n, S + n]
        column = (slots - 1 - distance).clamp(0, slots - 1)  # future keys are masked below
        position = by_steps.gather(-1, column.expand_as(by_steps))

        seen = distance >= 0
        if self.same_length:
            seen = seen & (distance < self.length)
        allowed = seen & held[:, None, None, :]
        score = ((content + position) / self.head_dim**0.5).masked_fill(~allowed, -torch.inf)
        y = self.dropout(score.softmax(-1)) @ value
        y = self.output(y.transpose(1, 2).flatten(-2))
        return Mixed(y, {"memory": history[:, -self.length :].detach(), "held": held[:, -self.length :]})


class FastSinusoidalWindow(SinusoidalWindow):
    """The same without stored scores."""

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        assert isinstance(context.shared, SharedBiases)
        memory, n = state["memory"], x.shape[1]
        sees = memory.shape[1] + n if not self.same_length else min(self.length, memory.shape[1] + n)
        steps = torch.arange(sees - 1, -1, -1, device=x.device)
        if self.clamp_len > 0:
            steps = steps.clamp(max=self.clamp_len)
        block = context.norm(x)
        query_weight, key_weight, value_weight = self.qkv.weight.chunk(3)
        query = functional.linear(block, query_weight).view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)
        held = functional.pad(state["held"], (0, n), value=True)
        history = torch.cat([memory, x.detach()], dim=1)
        after = {"memory": history[:, -self.length :], "held": held[:, -self.length :]}
        lanes = [Lane(slice(0, self.heads), (Band(lag=n - 1, width=self.length if self.same_length else None),))]
        content = query + context.shared.u[:, None]
        asking, positions = self.by_steps(query + context.shared.v[:, None], self.sinusoids(steps), context)
        if context.caching:
            grown = {}
            for name, weight in (("cache_key", key_weight), ("cache_value", value_weight)):
                older = state[name] if name in state else project(context.norm(memory), weight)
                grown[name] = torch.cat([older, project(block, weight)], dim=1)
            after |= {name: cache[:, -self.length :] for name, cache in grown.items()}
            (key, value), lengths = held_rows(held, *grown.values())
            y = attend_projected(content, key, value, lanes, [positions], asking=asking, lengths=lengths)
        else:
            seen, lengths = held_rows(state["held"], context.norm(memory))
            y = attend(
                content,
                [*seen, block],
                key_weight,
                value_weight,
                lanes,
                [positions],
                asking=asking,
                lengths=[lengths, None],
                dropout=self.dropout.p if self.training else 0.0,
            )
        return Mixed(self.output(y), after)

    def by_steps(self, query: Tensor, sinusoids: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Two factors of (q + v) . (W_r r_d): for the queries [B, H, n, D], and for the distances r_d [K, E].

        W_r goes with the distances, or, for a few queries without gradients (the backward knows factors of width D
        alone), with the queries: reading one token, no r_d is projected.
        """
        weight = self.relative.weight.view(self.heads, self.head_dim, -1)  # [H, D, E]
        if context.caching and query.shape[0] * query.shape[2] < self.head_dim:
            return query @ weight, sinusoids.T
        return query, weight @ sinusoids.T  # [H, D, K]


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes these settings."""
    if settings.positions == "learned":
        return FastLearnedWindow if impl == "fast" else LearnedWindow
    return FastSinusoidalWindow if impl == "fast" else SinusoidalWindow
