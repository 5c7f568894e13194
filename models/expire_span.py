"""Expire-Span: every memory predicts how long it is needed, and goes after that (Sukhbaatar et al. 2021, 2105.06548).

Per layer, shared by its heads, from the hidden states h_i that keys are projected from:

    e_i  = L sigmoid(w . (h_i / pre_div) + b)     span of memory i, in steps
    r_ti = e_i - (t - i)                          what is left of it for query t
    m_ti = clamp(1 + r_ti / R, 0, 1)              1 while alive, a linear ramp of R steps, then 0
    a'   = a m / (sum a m + 1e-8)                 softmax over keys with m > 0, masked, renormalised
    loss = alpha * mean_b sum_{0 < m < 1} r_ti / (R T)    only pairs on the ramp are charged

The value of the loss is never positive; what matters is its gradient, 1 / (R T) per pair. There is no cut at distance
L: a memory may serve up to L + R steps. In training with `noisy`, one u ~ U(0, 1) per block caps all spans at u L.

State: `memory` [B, S, E], the layer's inputs that are not forgotten, each row packed to the right; `age` [B, S], how
far each stands before the next query (1 is the newest, 0 marks an empty slot); `alive` [B, S], for the record,
whether a later query may still see it; with edited spans also `span` [B, S]. The newest P = min(L, T) slots always
stay, so that position terms need no lookup. It begins as P zero vectors.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.heads import Heads
from models.kernels.attention import project
from models.kernels.bands import Band
from models.kernels.bias import SlotRamp
from models.kernels.work import Lane
from models.mixer import Context, Mixed, Mixer, Sizes
from models.positions import LearnedPositions, position_scores
from models.ragged import LENGTHS, behind, both, lengths_of, row_of
from models.state import LayerState

CARD = {
    "title": "Expire-Span",
    "family": "learned expiry",
    "paper": "Sukhbaatar et al. 2021, 2105.06548",
    "impls": ["reference", "fast"],
    "auto": {"cpu": "fast"},
    "colour": "#D55E00",
    "marker": "P",
    "cost": "8 * E * H * D + 4 * E * H * D * S / T + 4 * H * D * (S + T) + 2 * H * D * P + 2 * E * (S + T) / T",
    "state": "S * (E + 2)",
    "symbols": {
        "P": "min(max_span, T)",
    },
}


@dataclass(frozen=True)
class Settings:
    """Settings of `expire_span`."""

    max_span: int = 512
    """L, the longest span a memory can predict."""
    ramp: int = 32
    """R, length of the linear ramp in steps."""
    coefficient: float = 1e-6
    """alpha, weight of the span loss."""
    initial_fraction: float = 0.1
    """p: every span begins at p L."""
    pre_div: float = 1.0
    """Hidden states are divided by this before the span is predicted, which steadies training at large L."""
    noisy: bool = False
    """In training, cap all spans at u L with one u ~ U(0, 1) per block."""
    layer_drop: float = 0.0
    """Probability of skipping a layer in training; its spans and memory still advance."""
    position_scale: float = 1.0
    """Standard deviation of the learned position vectors at initialisation."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """Settings under which a memory can stay for `slots` positions; which share stays is for the spans to say."""
    ramp = Settings.ramp
    if slots < ramp:
        raise Unsupported(f"{slots} positions are not longer than the ramp of {ramp}")
    return Settings(max_span=slots - ramp + 1, ramp=ramp)  # a memory is alive while its age is less than e + R


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    key = "method.expire_span"
    for name in ("max_span", "ramp"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{key}.{name}", f"is {getattr(settings, name)}", "Give at least 1.")
    if not 0 < settings.initial_fraction < 1:
        raise SettingsError(f"{key}.initial_fraction", f"is {settings.initial_fraction}", "Give a share in (0, 1).")
    if not 0 <= settings.layer_drop < 1:
        raise SettingsError(f"{key}.layer_drop", f"is {settings.layer_drop}", "Give a probability in [0, 1).")
    if settings.pre_div <= 0:
        raise SettingsError(f"{key}.pre_div", f"is {settings.pre_div}", "Give a positive number.")


class Method(Mixer):
    """Attention whose memories expire."""

    predicts_spans = True
    statistic_units: ClassVar[dict[str, str]] = {"mean_span": "tokens"}

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        self.near = min(settings.max_span, sizes.block_length)  # P
        self.project = Heads(sizes)
        self.predictor = nn.Linear(sizes.width, 1)  # w, b
        nn.init.zeros_(self.predictor.weight)
        nn.init.constant_(self.predictor.bias, -math.log(1 / settings.initial_fraction - 1))
        self.dropout = nn.Dropout(sizes.dropout)

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module:
        assert isinstance(settings, Settings)
        return LearnedPositions(sizes.head_dim, min(settings.max_span, sizes.block_length), settings.position_scale)

    def init_state(self, batch: int) -> LayerState:
        age = torch.arange(self.near, 0, -1)
        return {
            "memory": self.zeros(batch, self.near, self.sizes.width),
            "age": self.zeros(batch, self.near, dtype=torch.long) + age.to(self.predictor.bias.device),
            "alive": ~self.zeros(batch, self.near, dtype=torch.bool),
        }

    def slots(self, state: LayerState) -> tuple[Tensor, float]:
        return state["alive"].sum(1), state["age"].shape[1]

    def horizon(self) -> int:
        return self.settings.max_span + self.settings.ramp

    def spans(self, h: Tensor) -> Tensor:
        """e for the (in pre-norm: normalised) hidden states [B, S, E], as [B, S] in steps."""
        content = functional.linear(h, self.predictor.weight).squeeze(-1) / self.settings.pre_div
        return self.settings.max_span * torch.sigmoid(content + self.predictor.bias)

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        assert isinstance(context.shared, LearnedPositions)
        n, ramp = x.shape[1], self.settings.ramp
        history = torch.cat([state["memory"], x], dim=1)  # [B, S + n, E]
        steps = torch.arange(n, device=x.device)
        # How far each slot stands before the block's first query; the block's own tokens stand 0, -1, ... before it.
        age = torch.cat([state["age"], -steps.expand(x.shape[0], -1)], dim=1)  # [B, S + n]
        held = functional.pad(state["age"] > 0, (0, n), value=True)
        keys = context.norm(history)
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot count steps
            span = self.spans(keys.to(self.predictor.weight.dtype))  # [B, S + n]
        if context.edit_spans is not None:
            earlier = state["span"] if "span" in state else span[:, :-n]
            span = torch.cat([earlier, context.edit_spans(span[:, -n:])], dim=1)
        skip = self.skips(context)
        effective = self.shortened(span, context)

        distance = age[:, None, :] + steps[:, None]  # t - i, [B, n, S + n]
        left = effective[:, None, :] - distance  # r_ti
        seen = (distance >= 1) & held[:, None, :]
        mask = (1 + left / ramp).clamp(0, 1) * seen  # m_ti
        on_ramp = (mask > 0) & (mask < 1)
        charged = (left * on_ramp).sum((1, 2)).mean() / (ramp * self.sizes.block_length)

        query, key, value = self.project(keys, n)
        score = query @ key.mT + position_scores(query, context.shared.p, keys.shape[1])  # [B, H, n, S + n]
        weight = masked_softmax(score / query.shape[-1] ** 0.5, mask[:, None])
        age = (age + n) * held
        alive = span.detach() - age + ramp > 0  # for some later query, with today's parameters and without noise
        after = {"memory": history.detach(), "age": age, "alive": alive & (age > 0)}
        return Mixed(
            self.project.merge(self.dropout(weight) @ value),
            after if context.edit_spans is None else {**after, "span": span.detach()},
            aux_loss=self.settings.coefficient * charged,
            statistics={"mean_span": span.detach()[:, -n:].mean()},
            skip=skip,
            stays=(alive | (age <= self.near)) & (age > 0),
        )

    def shortened(self, span: Tensor, context: Context) -> Tensor:
        """The spans [B, S] as mask and loss see them: in noisy training min(e, u L)."""
        if not (self.training and self.settings.noisy):
            return span
        return span.clamp(max=step_randomness(context) * self.settings.max_span)

    def skips(self, context: Context) -> bool:
        """Whether this layer is skipped in this step; the same on all rows and ranks."""
        if not (self.training and self.settings.layer_drop > 0):
            return False
        return random.Random(f"{step_randomness(context)!r} {context.layer}").random() < self.settings.layer_drop


def step_randomness(context: Context) -> float:
    """This step's u. Raises ValueError where the caller gave none."""
    if context.randomness is None:
        raise ValueError("expire_span with noisy or layer_drop needs the step's randomness in training")
    return context.randomness


def masked_softmax(score: Tensor, mask: Tensor) -> Tensor:
    """Softmax of score [B, H, n, S] over the keys with mask > 0, multiplied by mask [B, 1, n, S] and renormalised.

    A query that sees no key gets weight zero everywhere.
    """
    weight = score.masked_fill(mask <= 0, torch.finfo(score.dtype).min).softmax(-1) * mask
    return weight / (weight.sum(-1, keepdim=True) + 1e-8)


class Fast(Method):
    """The same without stored scores, and each row keeps its own slots only.

    State, ragged (`models/state.py`): `memory` [sum of lengths, E], `age`, `alive`; if edited `span`.
    """

    differs_by = 1e-6  # the 1e-8 in the denominator

    def init_state(self, batch: int) -> LayerState:
        dense = super().init_state(batch)
        ragged = {name: tensor.flatten(0, 1) for name, tensor in dense.items()}
        return {**ragged, LENGTHS: torch.full((batch,), self.near, device=dense["age"].device)}

    def slots(self, state: LayerState) -> tuple[Tensor, float]:
        lengths = state[LENGTHS]
        return lengths_of(state["alive"], lengths), float(lengths.float().mean())

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        (batch, n, _), ramp, age = x.shape, self.settings.ramp, state["age"]
        steps, lengths = torch.arange(n, device=x.device), state[LENGTHS]
        cached = context.caching and "cache_key" in state
        block, older = context.norm(x), None if cached else context.norm(state["memory"])
        span, newest = self.all_spans(older, block, state, context)  # [sum of lengths], [B, n]
        # What is left of each slot for the block's first query; the block's own tokens stand 0, -1, ... before it.
        left, newest_left = self.shortened(span, context) - age, self.shortened(newest, context) + steps

        order = behind(lengths, n)
        slots = {"age": both(age, -steps.expand(batch, -1), order) + n}  # as the next block's first query finds them
        if context.caching:
            for name, weight in (("cache_key", self.project.key.weight), ("cache_value", self.project.value.weight)):
                earlier = state[name] if older is None else project(older, weight)
                slots[name] = both(earlier, project(block, weight), order)
            y = self.read_caches(block, slots, both(left, newest_left, order), lengths + n, context)
        else:
            assert older is not None
            y = self.read(block, older, state, left, newest_left, context)
        charged = on_ramp(left, -age, n, ramp) + on_ramp(newest_left.flatten(), steps.repeat(batch), n, ramp)
        return Mixed(
            y,
            self.kept(state["memory"], x.detach(), slots, both(span, newest, order).detach(), order, lengths, context),
            aux_loss=self.settings.coefficient * charged / (batch * ramp * self.sizes.block_length),
            statistics={"mean_span": newest.detach().mean()},
            skip=self.skips(context),
        )

    def all_spans(
        self, older: Tensor | None, block: Tensor, state: LayerState, context: Context
    ) -> tuple[Tensor, Tensor]:
        """Spans of memory [sum of lengths] and block [B, n], from the normalised hidden states of both.

        Those of memory are the state's where they were edited or are cached.
        """
        with torch.autocast(block.device.type, enabled=False):  # half precision cannot count steps
            kind = self.predictor.weight.dtype
            newest = self.spans(block.to(kind))
            if context.edit_spans is not None and "span" in state:
                span = state["span"]
            elif older is None:
                span = state["cache_span"]
            else:
                span = self.spans(older.to(kind))
        return span, newest if context.edit_spans is None else context.edit_spans(newest)

    def read(
        self,
        block: Tensor,
        older: Tensor,
        state: LayerState,
        left: Tensor,
        newest_left: Tensor,
        context: Context,
    ) -> Tensor:
        """What the block [B, n, E] reads of memory [sum of lengths, E] and itself, both normalised.

        Of each slot so much is `left` [sum of lengths], `newest_left` [B, n] when the block begins.
        """
        assert isinstance(context.shared, LearnedPositions)
        (_, n, _), ramp = block.shape, self.settings.ramp
        level, lengths = 1 + left / ramp, state[LENGTHS]
        order = self.order(left.detach(), state["age"], lengths, n)
        if order is not None:
            older, level = older.index_select(0, order), level.index_select(0, order)
            lengths = lengths_of(order, lengths)
        return self.project.attend(
            block,
            [older, block],
            [Lane(slice(0, self.project.heads), (Band(lag=n),))],
            [context.shared.p],
            lengths=[tuple(lengths.tolist()), None],
            bias=SlotRamp(ramp),
            of_bias=[level, 1 + newest_left / ramp],
            dropout=self.dropout.p if self.training else 0.0,
        )

    def read_caches(self, block: Tensor, slots: LayerState, left: Tensor, lengths: Tensor, context: Context) -> Tensor:
        """What the normalised block [B, n, E] reads of slots, its own among them, that are projected already."""
        assert isinstance(context.shared, LearnedPositions)
        return self.project.attend_projected(
            block,
            slots["cache_key"],
            slots["cache_value"],
            [Lane(slice(0, self.project.heads), (Band(lag=block.shape[1]),))],
            [context.shared.p],
            lengths=tuple(lengths.tolist()),
            bias=SlotRamp(self.settings.ramp),
            of_bias=[1 + left / self.settings.ramp],
        )

    def order(self, left: Tensor, age: Tensor, lengths: Tensor, n: int) -> Tensor | None:
        """Which slots the block is to see, in which order; None for all, as they stand.

        What is forgotten goes; what is wholly there for every query comes first, so that no mask is needed for it.
        The newest P slots stay in their places, as position vectors go by them.
        """
        near = age <= self.near
        whole = left > n - 1
        if bool((whole | near).all()):
            return None
        rank = torch.where(near, 2, torch.where(whole, 0, 1))
        visible = (near | ~(left + self.settings.ramp <= 0)).nonzero().squeeze(1)
        return visible[(row_of(lengths) * 3 + rank)[visible].argsort(stable=True)]

    def kept(
        self,
        memory: Tensor,
        x: Tensor,
        slots: LayerState,
        span: Tensor,
        order: Tensor,
        lengths: Tensor,
        context: Context,
    ) -> LayerState:
        """What of memory [sum of lengths, E] and block [B, n, E] some later query may still see.

        `order` is that in which both stand as one; `slots` and `span` are known of them in that order.
        """
        alive = span - slots["age"] + self.settings.ramp > 0
        stays = alive | (slots["age"] <= self.near)
        slots = {**slots, "alive": alive}
        if context.edit_spans is not None:
            slots["span"] = span
        if context.caching:
            slots["cache_span"] = span
        lengths = lengths + x.shape[1]
        if not bool(stays.all()):
            number = stays.nonzero().squeeze(1)
            slots = {name: tensor.index_select(0, number) for name, tensor in slots.items()}
            order, lengths = order.index_select(0, number), lengths_of(number, lengths)
        return {**slots, "memory": both(memory, x, order), LENGTHS: lengths}


def on_ramp(left: Tensor, place: Tensor, n: int, ramp: int) -> Tensor:
    """The sum of what is left, over all pairs of slot and query at which the slot is on the ramp.

    Args:
        left: [S] what is left of each slot for the block's first query; query t has t less of it.
        place: [S] the step of the block that a slot was read at; below 0 for memory. Later queries alone see it.
        n: queries.
        ramp: R.
    """
    least = torch.maximum(left.detach().floor() + 1, place + 1).clamp(min=0)
    most = ((left.detach() + ramp).ceil() - 1).clamp(max=n - 1)
    count = (most - least + 1).clamp(min=0)
    return (count * (left - (least + most) / 2)).sum()


def mixer_class(settings: Settings, impl: str) -> type[Mixer]:
    """The class that computes an impl."""
    return Fast if impl == "fast" else Method
