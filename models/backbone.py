"""The one backbone all methods share, so that a comparison compares only the mixing rule.

    x = encoder(tokens)                                      encoder and head come from the task
    post-norm block:  h2 = LN1(h + mix(h));  out = LN2(h2 + ff(h2))
    pre-norm block:   h2 = h + mix(LN1(h));  out = h2 + ff(LN2(h2))
    ff(h) = Linear(F, E)(dropout(relu(Linear(E, F)(h))))
    logits = head(x), after a final LayerNorm in a pre-norm backbone

In a pre-norm block the method itself applies LN1, to memory and block together, because memories are kept
un-normalised. State: the list of the layers' states, in order. Notation: `models/mixer.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import SettingsError, Unsupported
from models.host import read_together
from models.mixer import BackboneOptions, Context, Mixer, Sizes
from models.packing import pack
from models.registry import METHODS
from models.state import State, batch_rows, cache_bytes, state_bytes

SCALED_EMBEDDING = 0.02
"""Initial standard deviation of an embedding whose output is multiplied by sqrt(E) (Dai et al. 2019); with 1, the
embedding drowns what the layers add, and logits of a tied output are huge."""

MEMORY_UNITS = {"slots_alive": "slots", "slots_allocated": "slots", "state_bytes": "bytes", "cache_bytes": "bytes"}
"""What `Backbone.memory` tells, per stream and layer, with its units."""


@dataclass(frozen=True)
class BackboneSettings:
    """The transformer around the mixing rule, equal for all methods of a comparison."""

    layers: int = 2
    """N, number of blocks."""
    width: int = 128
    """E, width of the hidden states."""
    feedforward: int = 512
    """F, width of the feed-forward layer."""
    heads: int = 4
    """H, number of heads."""
    head_dim: int | None = None
    """D, width of a head; width / heads if not given."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or a feed-forward unit in training."""
    pre_norm: bool = False
    """Normalise a block's input instead of its output."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "feedforward", "heads"):
            if getattr(self, name) < 1:
                raise SettingsError(f"backbone.{name}", f"is {getattr(self, name)}", "Give at least 1.")
        if not 0 <= self.dropout < 1:
            raise SettingsError("backbone.dropout", f"is {self.dropout}", "Give a probability in [0, 1).")
        if self.head_dim is None and self.width % self.heads:
            raise SettingsError(
                "backbone.heads",
                f"{self.heads} heads do not divide the width {self.width}",
                "Change one of them, or give backbone.head_dim.",
            )
        if self.head_dim is not None and self.head_dim < 1:
            raise SettingsError("backbone.head_dim", f"is {self.head_dim}", "Give at least 1.")

    def sizes(self, block_length: int) -> Sizes:
        """What the layers are built with, for blocks of `block_length` tokens."""
        return Sizes(
            width=self.width,
            heads=self.heads,
            head_dim=self.head_dim or self.width // self.heads,
            block_length=block_length,
            layers=self.layers,
            feedforward=self.feedforward,
            dropout=self.dropout,
            pre_norm=self.pre_norm,
        )


@dataclass(frozen=True)
class Output:
    """What the model returns for a block.

    Args:
        y: what the task's head gives; for token tasks logits [B, n, V].
        state: what the next block needs, detached.
        aux_loss: the layers' auxiliary losses added up, a scalar.
        statistics: the layers' named scalars, each the mean over layers.
    """

    y: Tensor
    state: State
    aux_loss: Tensor
    statistics: dict[str, Tensor]


class Block(nn.Module):
    """One layer: a mixing rule and a feed-forward network, each with its residual and its LayerNorm."""

    def __init__(self, mixer: Mixer, sizes: Sizes, options: BackboneOptions) -> None:
        super().__init__()
        self.pre_norm = sizes.pre_norm
        self.mixer = mixer
        self.norm1 = nn.LayerNorm(sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.expand = nn.Linear(sizes.width, sizes.feedforward)
        self.contract = nn.Linear(sizes.feedforward, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)
        self.outer_dropout = nn.Dropout(sizes.dropout if options.dropout_outside else 0.0)
        if sizes.pre_norm:
            self.contract.weight.data.div_((2 * sizes.layers) ** 0.5)
            self.contract.bias.data.div_((2 * sizes.layers) ** 0.5)

    def feedforward(self, h: Tensor) -> Tensor:
        """ff(h) of hidden states [B, n, E]."""
        return self.outer_dropout(self.contract(self.dropout(torch.relu(self.expand(h)))))  # type: ignore[no-any-return]

    def finish(self, h: Tensor, mixed: Tensor) -> Tensor:
        """The block's output from its input h and what the method mixed, both [B, n, E]."""
        mixed = self.outer_dropout(mixed)
        if self.pre_norm:
            h = h + mixed
            return h + self.feedforward(self.norm2(h))
        h = self.norm1(h + mixed)
        return self.norm2(h + self.feedforward(h))  # type: ignore[no-any-return]


class Backbone(nn.Module):
    """Encoder, blocks of one method, head.

    Args:
        encoder: what the task makes of its inputs, giving [B, n, E].
        mixers: one per layer.
        head: what the task makes of the last hidden states [B, n, E].
        sizes: of the layers.
        shared: the method's module that all layers share, or None.
        options: details that the method was published with.
    """

    def __init__(
        self,
        encoder: nn.Module,
        mixers: list[Mixer],
        head: nn.Module,
        sizes: Sizes,
        shared: nn.Module | None,
        options: BackboneOptions,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = encoder
        self.blocks = nn.ModuleList(Block(mixer, sizes, options) for mixer in mixers)
        self.shared = shared
        self.norm = nn.LayerNorm(sizes.width) if sizes.pre_norm and options.final_norm else nn.Identity()
        self.head = head
        self.input_scale = sizes.width**0.5 if options.scale_embedding else 1.0
        self.dropout = nn.Dropout(sizes.dropout if options.dropout_outside else 0.0)
        if options.scale_embedding:
            for part in encoder.modules():
                if isinstance(part, nn.Embedding):
                    part.weight.data.mul_(SCALED_EMBEDDING)  # of the N(0, 1) that what is read begins with
        if options.tie_output:
            embedding, projection = getattr(encoder, "weight", None), getattr(head, "weight", None)
            if embedding is None or projection is None or embedding.shape != projection.shape:
                raise Unsupported(
                    "the method ties its output to the embedding, and this task's encoder and head do not match"
                )
            head.weight = encoder.weight

    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def init_state(self, batch: int) -> State:
        """The state of `batch` streams at their start."""
        return [block.mixer.init_state(batch) for block in self.layers()]

    def forward(
        self,
        inputs: Tensor,
        state: State,
        randomness: float | None = None,
        edit_spans: Callable[[int, Tensor], Tensor] | None = None,
        caching: bool = False,
    ) -> Output:
        """Reads a block.

        Args:
            inputs: what the encoder takes, [B, n, ...] with n at most the configured block length.
            state: as the block before left it.
            randomness: this training step's u in (0, 1); methods that add noise in training require it.
            edit_spans: called with (layer number, spans [B, n]) of the tokens just read, returns what to use instead.
            caching: keep keys and values of memory in the state, so that they are projected once only: for evaluation
                and acting, where no parameter changes as long as the state lasts.
        """
        if caching and (self.training or torch.is_grad_enabled()):
            raise ValueError("caching needs eval() and torch.no_grad(): what is carried has no gradient and no dropout")
        if inputs.shape[1] > self.sizes.block_length:
            raise ValueError(
                f"a block of {inputs.shape[1]} tokens; the model is configured for {self.sizes.block_length}"
            )
        h = self.dropout(self.encoder(inputs) * self.input_scale)
        aux_loss = h.new_zeros(())
        new_state: State = []
        stays: list[Tensor | None] = []
        statistics: dict[str, list[Tensor]] = {}
        numbers = read_together([block.mixer.numbers() for block in self.layers()])
        for number, (block, layer_state) in enumerate(zip(self.layers(), state, strict=True)):
            context = Context(
                norm=block.norm1 if self.sizes.pre_norm else nn.Identity(),
                layer=number,
                shared=self.shared,
                randomness=randomness,
                edit_spans=None if edit_spans is None else functools.partial(edit_spans, number),
                numbers=numbers[number],
                caching=caching,
            )
            mixed = block.mixer(h, layer_state, context)
            h = h if mixed.skip else block.finish(h, mixed.y)
            new_state.append(mixed.state)
            stays.append(mixed.stays)
            if mixed.aux_loss is not None:
                aux_loss = aux_loss + mixed.aux_loss
            for name, value in mixed.statistics.items():
                if name not in block.mixer.statistic_units:
                    raise KeyError(f"{type(block.mixer).__module__}: statistic_units has no unit for {name!r}")
                statistics.setdefault(name, []).append(value.detach())
        del mixed  # it would keep the last layer's state as it was before packing
        pack(new_state, stays)
        logits = self.head(self.dropout(self.norm(h)))
        summary = {name: torch.stack(values).mean() for name, values in statistics.items()}
        return Output(logits, new_state, aux_loss, summary)

    def readings(self) -> int:
        """How often a document is read before it is labelled."""
        return max(block.mixer.readings for block in self.layers())

    def again(self, state: State) -> State:
        """The state in which a document that was read to its end is read again: `Mixer.again`."""
        return [block.mixer.again(layer) for block, layer in zip(self.layers(), state, strict=True)]

    def after_step(self) -> None:
        """To be called after each optimiser step."""
        for block in self.layers():
            block.mixer.after_step()

    def memory(self, state: State) -> dict[str, float]:
        """What the state holds: slots alive and allocated, bytes of them and of caches, per stream.

        Each as mean and maximum over layers.
        """
        held: dict[str, list[float]] = {name: [] for name in MEMORY_UNITS}
        for block, layer in zip(self.layers(), state, strict=True):
            alive_rows, slots = block.mixer.slots(layer)
            held["slots_alive"].append(float(alive_rows.float().mean()))
            held["slots_allocated"].append(float(slots))
            held["state_bytes"].append(state_bytes(layer) / batch_rows(layer))
            held["cache_bytes"].append(cache_bytes(layer) / batch_rows(layer))
        figures: dict[str, float] = {}
        for name, values in held.items():
            figures[name] = sum(values) / len(values)
            figures[f"max_{name}"] = max(values)
        return figures


def build(
    method: str,
    settings: object,
    backbone: BackboneSettings,
    block_length: int,
    encoder: nn.Module,
    head: nn.Module,
    impl: str = "reference",
) -> Backbone:
    """A model of one method. Cells, parity, clock and tests all build their models here.

    Args:
        method: the id of a registered method.
        settings: the method's ``Settings``.
        backbone: what surrounds it.
        block_length: T.
        encoder, head: the task's.
        impl: how the method is computed; one of the method card's ``impls``.

    Raises:
        SettingsError: the settings cannot work together, or the method has no such impl.
        Unsupported: the method cannot serve this task.
    """
    impls = METHODS.card(method)["impls"]
    if impl not in impls:
        raise SettingsError("impl", f"{method} has no impl {impl!r}", f"It has: {', '.join(impls)}")
    module = METHODS.load(method)
    check = getattr(module, "check", None)
    if check is not None:
        check(settings, backbone, block_length)
    sizes = backbone.sizes(block_length)
    implementation = _implementation(method, settings, impl)
    mixers = [implementation(settings, sizes) for _ in range(sizes.layers)]
    return Backbone(
        encoder,
        mixers,
        head,
        sizes,
        implementation.build_shared(settings, sizes),
        implementation.backbone_options(settings),
    )


def horizon(method: str, settings: object, backbone: BackboneSettings, block_length: int, impl: str) -> int:
    """How many tokens fill the memory of a new model of one method: `Mixer.horizon`. Arguments as for `build`."""
    mixer = _implementation(method, settings, impl)(settings, backbone.sizes(block_length))
    return mixer.horizon()


def _implementation(method: str, settings: object, impl: str) -> type[Mixer]:
    """The class that computes a method's layers."""
    module = METHODS.load(method)
    found: type[Mixer] = module.mixer_class(settings, impl) if hasattr(module, "mixer_class") else module.Method
    return found
