"""Memory Transformer: a memory of the m most important states so far (J. Metzger, "Memory Transformer Networks").

    s_i = w . h_i                                               importance of a state
    a_t = softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_i )   over memory and the block's past

That is the whole training signal: attending to what helps raises its importance, so the choice itself needs no
gradient. After each block of T, memory is the m states of memory and block with the greatest s, in order of time;
of equal ones the newer stay. s is computed anew, with gradient to w, at each use. Position vectors are those of the
last P = T distances. A constant beside w . h_i would change neither softmax nor choice, and is left out.

In a stream without end, what was important once stays for ever and fills the memory. With `fading: learned` (not the
poster's) importance falls with age, in scores and in the choice: s_i - f (t - i), f > 0 learned per layer.

`reading: two_pass` labels documents: a document is read once to fill the memory, then again with the memory finished,
every query seeing all of it, what came later too. `memory` replaces the choice by baselines: the last m states, any m,
or none.

State: `memory` [B, m, E], the layer's inputs that were kept, with their times `time` [B, m] in the stream and `read`
[B, m], whether a slot was read or is one of the m zero vectors that a stream begins with (attended, and first to go);
`open` [B, o, E], what was read of the open block; `clock` [B, 1], the time at which that began; `finished` [B, 1],
whether the memory is to stay as it is.
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
from models.choice import greatest, scrambled, slots_beside, weighed
from models.errors import SettingsError
from models.heads import Heads
from models.kernels.slot_scores import SlotScores
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions
from models.state import LayerState, without_caches

CARD = {
    "title": "Memory Transformer",
    "family": "chosen memory",
    "paper": "J. Metzger, Memory Transformer Networks",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#009E73",
    "marker": "*",
    "cost": "8 * E * H * D + 4 * E * H * D * m / T + 4 * H * D * (m + T) + 4 * H * D * T",
    "state": "0 if memory == 'none' else m * (E + 2) + 2",
    "symbols": {
        "m": "min(slots, T) if memory == 'none' else slots",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `memory_transformer`."""

    slots: int = 128
    """m, how many states the memory has."""
    memory: Literal["importance", "recent", "random", "none"] = "importance"
    """Which states it keeps: the most important, the last, any, or none (each block alone)."""
    fading: Literal["none", "learned"] = "none"
    """Whether importance falls with age, at a learned rate per layer: for streams without end, where nothing goes."""
    reading: Literal["causal", "two_pass"] = "causal"
    """Read once, seeing the past; or read documents twice, seeing all of the finished memory. For labelling only."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings under which memory and block together have `slots`. The memory's size is fixed: alive must be 1."""
    return Settings(slots=slots_beside("memory_transformer", slots, alive, block_length))


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    if settings.slots < 1:
        raise SettingsError("method.memory_transformer.slots", f"is {settings.slots}", "Give at least 1.")
    if settings.memory == "none" and settings.reading == "two_pass":
        raise SettingsError(
            "method.memory_transformer.reading",
            "is two_pass, and with memory=none a first reading leaves nothing for the second",
            "Read causally, or choose another memory.",
        )
    if settings.fading == "learned" and settings.reading == "two_pass":
        raise SettingsError(
            "method.memory_transformer.fading",
            "is learned, and what comes later in a document has no age",
            "Give none, or read causally.",
        )


def check_objective(settings: Settings, objective: str) -> None:
    """Raises SettingsError where documents are to be read twice and the task has none."""
    if settings.reading == "two_pass" and objective != "documents":
        raise SettingsError(
            "method.memory_transformer.reading",
            "is two_pass, which reads a document to its end before it labels it, and this task has no documents",
            "Give causal, or take a task of documents.",
        )


class Method(Mixer):
    """Attention to the block and to what was most important before it."""

    statistic_units: ClassVar[dict[str, str]] = {"mean_age": "tokens"}

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        self.count = settings.slots if settings.memory != "none" else min(settings.slots, sizes.block_length)
        self.readings = 2 if settings.reading == "two_pass" else 1
        # The slots that may have positions: those of the last T distances; in a second reading any.
        self.near = self.count if self.readings == 2 else min(self.count, sizes.block_length)
        self.project = Heads(sizes)
        self.importance = nn.Linear(sizes.width, 1, bias=False)  # w
        # log f: at first what is m steps old has lost 1.
        self.fade = nn.Parameter(torch.tensor(-math.log(self.count))) if settings.fading == "learned" else None
        if settings.memory == "random":
            self.seed: Tensor
            self.register_buffer("seed", torch.randint(2**31, (1, 1)))
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        return LearnedPositions(sizes.head_dim, sizes.block_length, settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        if self.settings.memory == "none":
            return {"open": self.zeros(batch, 0, self.sizes.width)}
        return {**self.beginning(batch), "open": self.zeros(batch, 0, self.sizes.width)}

    def beginning(self, batch: int) -> LayerState:
        """The zero vectors that memory begins with, at the beginning of time."""
        before = torch.arange(-self.count, 0, device=self.importance.weight.device)
        return {
            "memory": self.zeros(batch, self.count, self.sizes.width),
            "time": self.zeros(batch, self.count, dtype=torch.long) + before,
            "read": self.zeros(batch, self.count, dtype=torch.bool),
            "clock": self.zeros(batch, 1, dtype=torch.long),
            "finished": self.zeros(batch, 1, dtype=torch.bool),
        }

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        slots = state["open"].shape[1] + (state["memory"].shape[1] if "memory" in state else 0)
        return torch.full((state["open"].shape[0],), slots), slots

    def horizon(self) -> int:
        return 0 if self.settings.memory == "none" else self.count

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        begun, n = state["open"].shape[1], x.shape[1]
        if begun + n > self.sizes.block_length:  # the piece runs over the end of the open block
            return self.in_two(self.sizes.block_length - begun, x, state, context)
        forgets = self.settings.memory == "none"
        if forgets:
            state = {**state, **self.beginning(x.shape[0])}
        cached = context.caching and "cache_level" in state
        older = None if cached else context.norm(torch.cat([state["memory"], state["open"]], dim=1))
        block = context.norm(x)
        now = state["clock"] + torch.arange(begun + n, device=x.device)  # [B, o + n]
        time = torch.cat([state["time"], now], dim=1)  # [B, m + o + n]
        of_older = state["cache_level"] if older is None else self.importance_of(older)
        importance = torch.cat([of_older, self.importance_of(block)], dim=1)
        level = importance
        if self.fade is not None:  # s_i - f (t - i), but for what is the same for all i
            level = importance + self.fade.exp() * (time - state["clock"])
        y, caches = self.read(older, block, level, time, state, context)
        if caches:
            caches["cache_level"] = importance
        state = without_caches(state)
        slots = {"memory": torch.cat([state["memory"], state["open"], x.detach()], dim=1), **caches}
        opened = slots["memory"][:, self.count :] if begun + n < self.sizes.block_length else state["open"][:, :0]
        if forgets:
            return Mixed(y, {"open": opened})
        # In a second reading what memory holds is of another time.
        statistics = {"mean_age": gapped.mean_age(state)} if self.readings == 1 else {}
        if begun + n < self.sizes.block_length:
            return Mixed(y, {**state, "open": opened, **caches}, statistics=statistics)
        return Mixed(y, self.next_state(slots, level.detach(), time, state, context), statistics=statistics)

    def importance_of(self, h: Tensor) -> Tensor:
        """s of (in pre-norm: normalised) hidden states [B, S, E], as [B, S]."""
        return weighed(h, self.importance.weight[0])

    def read(
        self, older: Tensor | None, block: Tensor, level: Tensor, time: Tensor, state: LayerState, context: Context
    ) -> tuple[Tensor, LayerState]:
        """What the block [B, n, E] reads of memory and open block [B, m + o, E] and of itself, all normalised.

        Args:
            older: None where the state has caches of it.
            level: what is added to the score of each slot, [B, m + o + n].
            time: when each was read.

        Returns:
            y [B, n, E]; and the caches of all slots, where they are wanted.
        """
        assert isinstance(context.shared, LearnedPositions)
        assert older is not None
        query, key, value = self.project(torch.cat([older, block], dim=1), block.shape[1])
        weight = gapped.weights(query, key, context.shared.p, level[:, None], time[:, None], self.count, self.near)
        return self.project.merge(self.dropout(weight) @ value), {}

    def next_state(
        self, slots: LayerState, level: Tensor, time: Tensor, state: LayerState, context: Context
    ) -> LayerState:
        """The state after a block.

        Args:
            slots: of memory and block [B, m + T, ...]: the hidden states `memory`, and caches.
            level: what they are worth [B, m + T].
            time: when they were read.
        """
        clock, length = state["clock"], self.sizes.block_length
        slots = {**slots, "time": time, "read": functional.pad(state["read"], (0, length), value=True)}
        worth = level
        if self.settings.memory == "recent":
            worth = time
        elif self.settings.memory == "random":
            # Of what was read too, so that rows and documents differ: by its greatest channel, as any sum is rounded.
            worth = scrambled(slots["memory"].argmax(-1), time, clock, self.seed + context.layer)
        least = -torch.inf if worth.is_floating_point() else torch.iinfo(worth.dtype).min
        chosen = greatest(worth.masked_fill(~slots["read"], least), self.count)  # [B, m]
        chosen = torch.where(state["finished"], torch.arange(self.count, device=clock.device), chosen)
        return {**state, **gapped.kept(slots, chosen), "open": state["open"][:, :0], "clock": clock + length}

    def again(self, state: LayerState) -> LayerState:
        if state["open"].shape[1]:
            raise ValueError("a document that is read again must end with a block: what is open is in no memory yet")
        return {
            **state,
            "clock": torch.zeros_like(state["clock"]),
            "finished": torch.ones_like(state["finished"]),
        }


class Fast(Method):
    """The same without stored scores, but for those of positions: of the newest T slots, read twice of all slots."""

    def read(
        self, older: Tensor | None, block: Tensor, level: Tensor, time: Tensor, state: LayerState, context: Context
    ) -> tuple[Tensor, LayerState]:
        assert isinstance(context.shared, LearnedPositions)
        n, inside = block.shape[1], time.shape[1] - self.count
        query = self.project.split(self.project.query(block))
        p = context.shared.p
        terms = gapped.terms(query, p, time[:, None], self.count, self.near) / query.shape[-1] ** 0.5
        lanes = gapped.lanes(self.project.heads, n, self.count, inside)
        positions = [None, p]
        more = {"bias": SlotScores(inside), "of_bias": [level[:, :-n], level[:, -n:], terms]}
        if context.caching and self.settings.memory != "none":
            key, value = self.project.grown(state, [state["memory"], state["open"]], block, context)
            more["of_bias"] = [level, terms]
            y = self.project.attend_projected(block, key, value, lanes, positions, **more)
            return y, {"cache_key": key, "cache_value": value}
        assert older is not None
        dropout = self.dropout.p if self.training else 0.0
        return self.project.attend(block, [older, block], lanes, positions, dropout=dropout, **more), {}


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method
