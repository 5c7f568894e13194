"""Sparse Transformer of importance scores: every head keeps the m states most important to it (J. Metzger).

    s_{h,i} = w_h . h_i                                             importance of a state to head h
    a_t = softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_{h,i} )   over head h's memory and the block's past

`memory_transformer` with an importance and a memory for each head, and, where `fading` is learned, a rate f_h at which
it falls with age. (Not Child et al.'s "Sparse Transformer".)

State: `memory` [B, m, H, E], the layer's inputs that each head kept, with their times `time` [B, m, H] in the stream
and `read` [B, m, H], whether a slot was read or is one of the zero vectors that a stream begins with (attended, and
first to go); `open` [B, o, E], what was read of the open block; `clock` [B, 1], the time at which that began.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import gapped
from models.backbone import BackboneSettings
from models.choice import greatest, slots_beside, weighed
from models.errors import SettingsError
from models.heads import Heads
from models.kernels.attention import attend, attend_projected, project
from models.kernels.slot_scores import SlotScores
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions
from models.state import LayerState, without_caches

CARD = {
    "title": "Importance-sparse",
    "family": "chosen memory",
    "paper": "J. Metzger, Memory Transformer Networks",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#56B4E9",
    "marker": "<",
    "cost": "8 * E * H * D + 4 * E * H * D * m / T + 4 * H * D * (m + T) + 4 * H * D * T",
    "state": "m * H * (E + 2) + 1",
    "symbols": {
        "m": "slots",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `importance_sparse`."""

    slots: int = 128
    """m, how many states each head keeps."""
    fading: Literal["none", "learned"] = "none"
    """Whether importance falls with age, at a learned rate per head: for streams without end, where nothing goes."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings under which a head's memory and the block have `slots`. The memory's size is fixed: alive must be 1."""
    return Settings(slots=slots_beside("importance_sparse", slots, alive, block_length))


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    if settings.slots < 1:
        raise SettingsError("method.importance_sparse.slots", f"is {settings.slots}", "Give at least 1.")


class Method(Mixer):
    """Attention to the block and to what was most important to each head before it."""

    statistic_units: ClassVar[dict[str, str]] = {"mean_age": "tokens"}
    carries: ClassVar[bool] = False
    """Whether keys and values of memory are carried from call to call, where they may be."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, self.count = sizes, settings.slots
        # The slots that may have positions: those of the last T distances.
        self.near = min(self.count, sizes.block_length)
        self.project = Heads(sizes)
        self.importance = nn.Linear(sizes.width, sizes.heads, bias=False)  # w_h
        # log f_h: at first what is m steps old has lost 1.
        learned = settings.fading == "learned"
        self.fade = nn.Parameter(torch.full((sizes.heads,), -math.log(self.count))) if learned else None
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        return LearnedPositions(sizes.head_dim, sizes.block_length, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        before = torch.arange(-self.count, 0, device=self.importance.weight.device)[:, None]
        each = (batch, self.count, self.sizes.heads)
        return {
            "memory": self.zeros(*each, self.sizes.width),
            "time": self.zeros(*each, dtype=torch.long) + before,
            "read": self.zeros(*each, dtype=torch.bool),
            "open": self.zeros(batch, 0, self.sizes.width),
            "clock": self.zeros(batch, 1, dtype=torch.long),
        }

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        slots = self.count * self.sizes.heads + state["open"].shape[1]
        return torch.full((state["memory"].shape[0],), slots), slots

    def horizon(self) -> int:
        return self.count

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        begun, n = state["open"].shape[1], x.shape[1]
        if begun + n > self.sizes.block_length:  # the piece runs over the end of the open block
            return self.in_two(self.sizes.block_length - begun, x, state, context)
        cached, block = context.caching and "cache_level" in state, context.norm(x)
        older = None if cached else (context.norm(state["memory"]), context.norm(state["open"]))
        now = (state["clock"] + torch.arange(begun + n, device=x.device))[..., None]  # [B, o + n, 1]
        time = torch.cat([state["time"], now.expand(-1, -1, self.sizes.heads)], dim=1)  # [B, m + o + n, H]
        of_older = [state["cache_level"]] if older is None else [self.importance_of(part) for part in older]
        importance = torch.cat([*of_older, self.importance_of(block)], dim=1)  # [B, m + o + n, H]
        level = importance
        if self.fade is not None:  # s_{h,i} - f_h (t - i), but for what is the same for all i
            level = importance + self.fade.exp() * (time - state["clock"][..., None])
        query = self.project.split(self.project.query(block))
        key, value = self.keys_and_values(older, block, state)
        y = self.project.merge(self.read(query, key, value, level, time, context))
        caches = {}
        if context.caching and self.carries:
            caches = {"cache_key": key, "cache_value": value, "cache_level": importance}
        state, statistics = without_caches(state), {"mean_age": gapped.mean_age(state)}
        tokens = torch.cat([state["open"], x.detach()], dim=1)
        if begun + n < self.sizes.block_length:
            return Mixed(y, {**state, "open": tokens, **caches}, statistics=statistics)
        every_head = tokens[:, :, None].expand(-1, -1, self.sizes.heads, -1)
        slots = {"memory": torch.cat([state["memory"], every_head], dim=1), "time": time, **caches}
        return Mixed(y, self.next_state(slots, level.detach(), state), statistics=statistics)

    def importance_of(self, h: Tensor) -> Tensor:
        """s_h of (in pre-norm: normalised) hidden states [B, S, E], or each head's own [B, S, H, E], as [B, S, H]."""
        return weighed(h if h.dim() == 4 else h[:, :, None], self.importance.weight)

    def keys_and_values(
        self, older: tuple[Tensor, Tensor] | None, block: Tensor, state: LayerState
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, m + o + n, H, D] of the heads' memories, the open block and the block [B, n, E].

        Args:
            older: the first two, [B, m, H, E] and [B, o, E], normalised; None where the state has caches of them.
        """
        found = []
        for name, layer in (("cache_key", self.project.key), ("cache_value", self.project.value)):
            if older is None:
                before, own = state[name], block
            else:
                kept, opened = older
                of_head = layer.weight.view(self.sizes.heads, -1, self.sizes.width)
                with torch.autocast(kept.device.type, enabled=False):  # as `project`
                    before = torch.einsum("bmhe,hde->bmhd", kept.to(of_head.dtype), of_head)
                own = torch.cat([opened, block], dim=1)
            new = project(own, layer.weight).view(*own.shape[:2], self.sizes.heads, -1)
            found.append(torch.cat([before, new], dim=1))
        return found[0], found[1]

    def read(self, query: Tensor, key: Tensor, value: Tensor, level: Tensor, time: Tensor, context: Context) -> Tensor:
        """What the queries [B, H, n, D] read of memory and open block, [B, H, n, D].

        Args:
            key, value: [B, m + o + n, H, D].
            level: what is added to the score of each slot, [B, m + o + n, H].
            time: when each was read.
        """
        assert isinstance(context.shared, LearnedPositions)
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        weight: Tensor = self.dropout(
            gapped.weights(query, key, context.shared.p, level.mT, time.mT, self.count, self.near)
        )
        return weight @ value

    def next_state(self, slots: LayerState, level: Tensor, state: LayerState) -> LayerState:
        """The state after a block.

        Args:
            slots: of memory and block [B, m + T, H, ...]: hidden states `memory`, `time`, and caches.
            level: what they are worth to each head [B, m + T, H].
        """
        read = functional.pad(state["read"], (0, 0, 0, self.sizes.block_length), value=True)
        chosen = greatest(level.masked_fill(~read, -torch.inf).mT, self.count).mT  # [B, m, H]
        kept = gapped.kept({**slots, "read": read}, chosen)
        return {**state, **kept, "open": state["open"][:, :0], "clock": state["clock"] + self.sizes.block_length}


class Fast(Method):
    """The same without stored scores, but for those of the positions of memories' newest T slots.

    Each head of each row is to the kernel a row of its own.
    """

    carries = True

    def read(self, query: Tensor, key: Tensor, value: Tensor, level: Tensor, time: Tensor, context: Context) -> Tensor:
        assert isinstance(context.shared, LearnedPositions)
        batch, heads, n, width = query.shape
        inside = time.shape[1] - self.count
        terms = gapped.terms(query, context.shared.p, time.mT, self.count, self.near) / width**0.5
        lanes = gapped.lanes(1, n, self.count, inside)
        positions = [None, context.shared.p]
        asks, key, value = query.flatten(0, 1)[:, None], *(x.transpose(1, 2).flatten(0, 1) for x in (key, value))
        bias, of_bias = SlotScores(inside), [level.mT.flatten(0, 1), terms.flatten(0, 1)[:, None]]
        if context.caching:
            y = attend_projected(asks, key, value, lanes, positions, bias=bias, of_bias=of_bias)
        else:
            unit = torch.eye(2 * width, dtype=key.dtype, device=key.device)
            y = attend(
                asks,
                [torch.cat([key, value], dim=-1)],  # of which a key is the first half, a value the second
                unit[:width],
                unit[width:],
                lanes,
                positions,
                bias=bias,
                of_bias=of_bias,
                dropout=self.dropout.p if self.training else 0.0,
            )
        return y.view(batch, heads, n, width)


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method
