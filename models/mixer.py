"""The contract between the backbone and a method: what a method is given, what it gives back, what it may carry.

Notation of the whole package: B batch rows, T configured block length, n tokens in this call (n <= T), L maximum span
or memory length, S slots of memory held, H heads, D head width, E model width, F feed-forward width, N layers, R ramp
length, P learned position columns. `t` is the time of a query, `i` that of a memory, `t - i` their distance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.state import LayerState


@dataclass(frozen=True)
class Sizes:
    """What every layer of a model is built with, resolved from `backbone.*` and `train.block_length`."""

    width: int
    """E, width of the hidden states."""
    heads: int
    """H."""
    head_dim: int
    """D; H * D need not equal E."""
    block_length: int
    """T, the configured block length; a call may carry fewer tokens."""
    layers: int
    """N."""
    feedforward: int
    """F."""
    dropout: float
    """Probability of dropping an attention weight or a feed-forward unit in training."""
    pre_norm: bool
    """Whether a block normalises its input (pre-norm) or its output (post-norm)."""


@dataclass(frozen=True)
class BackboneOptions:
    """Details of the backbone that a method brings along because it was published with them (Dai et al. 2019)."""

    scale_embedding: bool = False
    """Multiply the encoder's output by sqrt(E)."""
    tie_output: bool = False
    """Let the head use the encoder's (unscaled) embedding as its weight."""
    dropout_outside: bool = False
    """Drop after the embedding, after each sublayer and before the head too, as well as inside the feed-forward."""
    final_norm: bool = True
    """A LayerNorm before the head of a pre-norm backbone."""


@dataclass(frozen=True)
class Context:
    """What block and backbone know and a method may need.

    Args:
        norm: to be applied to memory and block together at each use; the identity in a post-norm backbone.
        layer: number of the layer, from 0.
        shared: the module that `Mixer.build_shared` made, one for all layers (learned positions, say), or None.
        randomness: u in (0, 1), one per training step, equal over layers, rows and ranks; None outside training.
        edit_spans: replaces the spans [B, n] of the tokens just read; evaluation asks "what if" with it.
        numbers: what `Mixer.numbers` asked for, on the host; None where nobody has read it.
        caching: whether keys and values of memory may be carried in the state, under names that begin with
            `models.state.CACHE`: no parameter changes, and no gradient is wanted, as long as the state lasts.
    """

    norm: Callable[[Tensor], Tensor]
    layer: int = 0
    shared: nn.Module | None = None
    randomness: float | None = None
    edit_spans: Callable[[Tensor], Tensor] | None = None
    numbers: tuple[float, ...] | None = None
    caching: bool = False


@dataclass(frozen=True)
class Mixed:
    """What a method returns for a block.

    Args:
        y: [B, n, E], to be added to the residual stream.
        state: what the next call needs, detached.
        aux_loss: scalar to be added to the task's loss, or None. Over the pieces of a block it adds up to the block's.
        statistics: named scalars, such as ``mean_span``; their units stand in `Mixer.statistic_units`.
        skip: whether the backbone is to pass the block's input on unchanged (layer drop). The layer's state advances
            all the same, and its auxiliary loss and statistics count, since the spans that it predicts are in force.
        stays: [B, S] which slots of the state some later query may still see; the backbone frees the others
            (`models/packing.py`). None for all.
    """

    y: Tensor
    state: LayerState
    aux_loss: Tensor | None = None
    statistics: dict[str, Tensor] = field(default_factory=dict)
    skip: bool = False
    stays: Tensor | None = None


class Mixer(nn.Module, ABC):
    """A rule for mixing information over time: one layer's part of a method.

    A method's module defines ``Settings`` (a frozen dataclass) and one subclass of this named ``Method``, built as
    ``Method(settings, sizes)`` once per layer; or, where settings or impl choose among several, a function
    ``mixer_class(settings, impl)`` that returns the subclass. A function ``sized(slots, alive, block_length)`` gives
    the Settings at which a query sees `slots` earlier positions, a share `alive` of them with weight; `bench clock`
    compares methods at equal sizes through it. `docs/add-a-method.md` builds a method from nothing.
    """

    predicts_spans: ClassVar[bool] = False
    """Whether the method predicts a span per memory and lets ``context.edit_spans`` replace it."""

    differs_by: ClassVar[float] = 0.0
    """By how much, relative to the largest value, an impl may differ from the reference in float64 beyond rounding: 0
    unless its formula leaves something out that is so small."""

    readings: int = 1
    """How often it reads a document before it labels it: a method that reads twice has `again`, and serves tasks of
    whole documents alone."""

    statistic_units: ClassVar[dict[str, str]] = {}
    """The unit of every name that `forward` may put into ``Mixed.statistics``."""

    @classmethod
    def build_shared(cls, settings: object, sizes: Sizes) -> nn.Module | None:
        """The module that all layers share, handed to `forward` as ``context.shared``. None by default."""
        return None

    @classmethod
    def backbone_options(cls, settings: object) -> BackboneOptions:
        """The backbone details the method was published with. None by default."""
        return BackboneOptions()

    @abstractmethod
    def init_state(self, batch: int) -> LayerState:
        """The state at a stream's start: tensors with `batch` rows on the parameters' device and of their type."""

    @abstractmethod
    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        """Mixes the block x [B, n, E] with the state. Position t of y may depend on x[:, :t + 1] and the state only."""

    def again(self, state: LayerState) -> LayerState:
        """The state in which a document that was read to its end is read again. For methods with two `readings`."""
        raise NotImplementedError(f"{type(self).__module__} has no `again`, which a method with two `readings` needs")

    def numbers(self) -> Tensor | None:
        """Numbers [k] that depend on parameters and that `forward` must know on the host (how far to look back, say).

        ``context.numbers`` brings them; the backbone reads those of all layers at once (`models/host.py`).
        """
        return None

    def in_two(self, first: int, x: Tensor, state: LayerState, context: Context) -> Mixed:
        """`forward` for the first tokens of x [B, n, E] and then for the others, which find another state."""
        before = self.forward(x[:, :first], state, context)
        after = self.forward(x[:, first:], before.state, context)
        losses = [part.aux_loss for part in (before, after) if part.aux_loss is not None]
        share = first / x.shape[1]
        return Mixed(
            torch.cat([before.y, after.y], dim=1),
            after.state,
            aux_loss=sum(losses[1:], losses[0]) if losses else None,
            statistics={
                name: share * value + (1 - share) * after.statistics[name] for name, value in before.statistics.items()
            },
            stays=after.stays,
        )

    @abstractmethod
    def slots(self, state: LayerState) -> tuple[Tensor, float]:
        """Slots of memory alive [B], and slots allocated per row (where rows are ragged: on average)."""

    @abstractmethod
    def horizon(self) -> int:
        """Tokens after which a stream's memory holds as much as it can hold with today's parameters.

        The clock fills memory for as long before it measures anything.
        """

    def after_step(self) -> None:
        """Called after each optimiser step, to keep parameters in their range."""

    def zeros(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Zeros on the parameters' device and, unless told otherwise, of their type."""
        return next(self.parameters()).new_zeros(shape, dtype=dtype)
