"""What the clock times: one training step of a cell's model, or one layer, on real input with its memory full.

Weights stay as the checkpoint has them (the learning rate is too small to move any), so that every step is taken at
the spans that training has reached.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.cell import build_parts
from bench.clock.endless_input import again_and_again, blocks
from bench.clock.optimiser_step import OptimiserStep, total_bytes, weight_bytes
from bench.spec import CellSpec
from models.backbone import Backbone, BackboneSettings, horizon
from models.errors import Unsupported
from models.host import read_together
from models.mixer import Context, Mixed
from models.packing import pack
from models.registry import METHODS
from models.state import LayerState, State
from tasks.randomness import derive, seed_generators, uniform
from tasks.stream import Position, StreamBatch
from tasks.stream_step import enter, loss_divisor, read_block

STILL = 1e-300
"""A learning rate that changes no weight of float32, not even one that is 0: as float32 it is 0 itself. Every operation
of the optimiser takes place all the same."""

EditSpans = Callable[[int, Tensor], Tensor]


class Workload(Protocol):
    """Something to be done again and again."""

    def fill(self) -> None:
        """Fills the memory. Nothing of this is measured."""
        ...

    def fetch(self) -> None:
        """Gets the input of the next step."""
        ...

    def step(self) -> None:
        """The step; what is timed."""
        ...

    def held(self) -> dict[str, float]:
        """What the memory holds now, as `Backbone.memory` says it."""
        ...

    def static_bytes(self) -> int:
        """Bytes of weights, of the gradients of those that a step learns, and of the optimiser's state."""
        ...


class TrainingStep:
    """Forward, backward, clipping and optimiser on the blocks of the training stream, outside Lightning's Trainer.

    Args:
        spec: the cell.
        weights: the model's, from a checkpoint; None for those it is initialised with.
        device: where.
        alive: the share of tokens whose memory stays, for methods that predict spans; None for what is predicted.
    """

    def __init__(
        self, spec: CellSpec, weights: dict[str, Tensor] | None, device: torch.device, alive: float | None = None
    ) -> None:
        parts = build_parts(replace(spec, train={**spec.train, "learning_rate": STILL, "schedule": "constant"}))
        if weights is not None:
            parts.model.load_state_dict(weights)
        self.train, self.seed, self.device = parts.train, spec.seed, device
        self.model = parts.model.to(device).train()
        self.update = OptimiserStep(self.model, parts.train, device, spec.precision == "16-mixed")
        self.edit_spans = None if alive is None else controlled_spans(self.model, alive)
        self.autocast = functools.partial(autocast, device, spec.precision)
        self.blocks = blocks(parts)
        self.state: State | None = None
        self.batch: StreamBatch | None = None
        self.count = 0

    def fill(self) -> None:
        """Reads ceil(horizon / T) blocks."""
        self.state, _ = filled(self.model, self.blocks, self.device, self.edit_spans, self.autocast)

    def fetch(self) -> None:
        """The next block, on the device."""
        self.batch = next(self.blocks).to(self.device)

    def step(self) -> None:
        """One training step, as `StreamModule.training_step` takes it."""
        assert self.batch is not None
        seed_generators(derive(self.seed, "step", self.count, "rank", 0))
        with self.autocast():
            read = read_block(
                self.model,
                self.batch,
                self.state,
                uniform(self.seed, "step", self.count, "shared"),
                self.train.accumulation,
                loss_divisor(self.batch.weights.sum()),
                self.update.backward,
                self.edit_spans,
            )
        self.state = read.state
        if read.learns:
            self.update.step()
        self.count += 1

    def held(self) -> dict[str, float]:
        """What the memory holds, per stream."""
        assert self.state is not None
        return self.model.memory(self.state)

    def static_bytes(self) -> int:
        """Of all weights, as many gradients, and the optimiser."""
        return self.update.static_bytes()


class EvaluationStep:
    """A forward pass over the next block of the validation split, in as many rows as validation reads.

    Args:
        spec, weights, device: as for `TrainingStep`.
    """

    def __init__(self, spec: CellSpec, weights: dict[str, Tensor] | None, device: torch.device) -> None:
        parts = build_parts(spec)
        if weights is not None:
            parts.model.load_state_dict(weights)
        self.model, self.device = parts.model.to(device).eval(), device
        self.autocast = functools.partial(autocast, device, spec.precision)
        source = parts.task.evaluation_source(parts.task_settings, parts.train, "validation")
        self.blocks = again_and_again(source)
        self.state: State | None = None
        self.batch: StreamBatch | None = None

    def fill(self) -> None:
        """Reads ceil(horizon / T) blocks."""
        self.state, _ = filled(self.model, self.blocks, self.device, None, self.autocast)

    def fetch(self) -> None:
        """The next block, on the device."""
        self.batch = next(self.blocks).to(self.device)

    def step(self) -> None:
        """Reads the block."""
        assert self.batch is not None
        with torch.no_grad(), self.autocast():
            state = enter(self.model, self.state, self.batch)
            self.state = self.model(self.batch.inputs, state, caching=True).state

    def held(self) -> dict[str, float]:
        """What the memory holds, per stream."""
        assert self.state is not None
        return self.model.memory(self.state)

    def static_bytes(self) -> int:
        """Of all weights."""
        return weight_bytes(self.model)


class TokenStep:
    """A model reads the next token of each row, in evaluation: what decoding and acting cost.

    Args:
        spec: the cell.
        device: where.
        alive: as for `TrainingStep`.
    """

    def __init__(self, spec: CellSpec, device: torch.device, alive: float | None = None) -> None:
        parts = build_parts(spec)
        self.model, self.device = parts.model.to(device).eval(), device
        self.edit_spans = None if alive is None else controlled_spans(self.model, alive)
        self.autocast = functools.partial(autocast, device, spec.precision)
        self.blocks = blocks(parts)
        self.state: State | None = None
        self.inputs = torch.empty(0)
        self.place = 0

    def fill(self) -> None:
        """Reads ceil(horizon / T) blocks, and one token for keys and values to be there."""
        self.state, _ = filled(self.model, self.blocks, self.device, self.edit_spans, self.autocast)
        self.fetch()
        self.step()

    def fetch(self) -> None:
        """The next token of each row, on the device."""
        if self.place % self.model.sizes.block_length == 0:
            self.inputs = next(self.blocks).to(self.device).inputs
        self.place += 1

    def step(self) -> None:
        """Reads it."""
        assert self.state is not None
        column = (self.place - 1) % self.model.sizes.block_length
        token = self.inputs[:, column : column + 1]
        with torch.no_grad(), self.autocast():
            self.state = self.model(token, self.state, edit_spans=self.edit_spans, caching=True).state

    def held(self) -> dict[str, float]:
        """What the memory holds, per stream."""
        assert self.state is not None
        return self.model.memory(self.state)

    def static_bytes(self) -> int:
        """Of all weights."""
        return weight_bytes(self.model)


class LayerStep:
    """Forward and backward of one layer's mixing rule, on random hidden states.

    Args:
        spec: a cell of one layer.
        device: where.
        alive: as for `TrainingStep`.
    """

    def __init__(self, spec: CellSpec, device: torch.device, alive: float | None = None) -> None:
        parts = build_parts(spec)
        self.model, self.device = parts.model.to(device).train(), device
        self.shape = (parts.train.batch_size, parts.train.block_length, parts.model.sizes.width)
        self.draws = torch.Generator().manual_seed(spec.seed)
        self.mixer = self.model.layers()[0].mixer
        self.dtype = next(self.mixer.parameters()).dtype
        self.autocast = functools.partial(autocast, device, spec.precision)
        edit = None if alive is None else controlled_spans(self.model, alive)
        self.context = Context(
            norm=nn.Identity(),
            shared=self.model.shared,
            randomness=0.5,
            edit_spans=None if edit is None else functools.partial(edit, 0),
        )
        self.state = self.mixer.init_state(self.shape[0])
        self.x = torch.empty(0)
        self.weight = torch.empty(0)

    def fill(self) -> None:
        """Reads ceil(horizon / T) blocks."""
        for _ in range(math.ceil(self.mixer.horizon() / self.shape[1])):
            self.fetch()
            with torch.no_grad(), self.autocast():
                self.state = self.after(self.mixed())

    def fetch(self) -> None:
        """Hidden states and an output gradient [B, T, E], of the parameters' type."""
        self.x = self._drawn().requires_grad_()
        self.weight = self._drawn()

    def step(self) -> None:
        """Forward, and the gradients of input and parameters."""
        with self.autocast():
            mixed = self.mixed()
            loss: Any = (mixed.y * self.weight).sum()
            (loss if mixed.aux_loss is None else loss + mixed.aux_loss).backward()
        self.state = self.after(mixed)
        self.model.zero_grad()

    def mixed(self) -> Mixed:
        """What the layer makes of the block, told on the host what it needs as the backbone would tell it."""
        context = replace(self.context, numbers=read_together([self.mixer.numbers()])[0])
        mixed: Mixed = self.mixer(self.x, self.state, context)
        return mixed

    def after(self, mixed: Mixed) -> LayerState:
        """The layer's state after a block, without what has expired."""
        state = [mixed.state]
        pack(state, [mixed.stays])
        return state[0]

    def held(self) -> dict[str, float]:
        """What the memory holds, per stream."""
        return self.model.memory([self.state])

    def static_bytes(self) -> int:
        """Of the weights of the model that the layer stands in, and of the gradients of the layer's own."""
        shared = [] if self.model.shared is None else self.model.shared.parameters()
        return weight_bytes(self.model) + total_bytes([*self.mixer.parameters(), *shared])

    def _drawn(self) -> Tensor:
        return torch.randn(self.shape, generator=self.draws).to(self.device, self.dtype)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision, where the cell has it."""
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    # Weights cast anew for each use, as Lightning has it.
    return torch.autocast(device.type, dtype=kind, enabled=precision.endswith("-mixed"), cache_enabled=False)


def refuse_endless_memory(spec: CellSpec) -> None:
    """Raises Unsupported for a method whose memory is never full: one that has a `max_span`, and has it None."""
    if spec.method_settings.get("max_span", 0) is not None:
        return
    settings = METHODS.load(spec.method).Settings(**spec.method_settings)
    backbone = BackboneSettings(**spec.backbone)
    if horizon(spec.method, settings, backbone, spec.train["block_length"], spec.impl) > 0:  # it keeps something
        raise Unsupported(f"memory grows without end, so it is never full; set method.{spec.method}.max_span")


def filled(
    model: Backbone,
    blocks: Iterator[StreamBatch],
    device: torch.device,
    edit_spans: EditSpans | None,
    autocast: Callable[[], Any],
) -> tuple[State, Position]:
    """The state of streams that have gone on for long enough to fill every layer's memory, and where they are then."""
    longest = max(block.mixer.horizon() for block in model.layers())
    state: State | None = None
    position: Position = {}
    was_training = model.training
    model.eval()
    for _ in range(max(1, math.ceil(longest / model.sizes.block_length))):
        batch = next(blocks).to(device)
        with torch.no_grad(), autocast():
            state = model(batch.inputs, enter(model, state, batch), edit_spans=edit_spans).state
        position = batch.position
    model.train(was_training)
    assert state is not None
    return state, position


def controlled_spans(model: Backbone, alive: float) -> EditSpans | None:
    """Spans of which a share `alive` never ends within L + R and the others have ended at once, spread evenly.

    None where the method predicts no spans: then its settings alone say how much stays.
    """
    mixer: Any = model.layers()[0].mixer
    if not mixer.predicts_spans:
        return None
    longest, ramp = mixer.settings.max_span, mixer.settings.ramp
    read = 0

    def edit(layer: int, spans: Tensor) -> Tensor:
        nonlocal read
        if layer == 0:
            read += spans.shape[1]
        token = torch.arange(read - spans.shape[1], read, device=spans.device)
        stays = ((token + 1) * alive).floor() > (token * alive).floor()
        target = torch.where(stays, float(longest), float(-ramp)).to(spans)
        return target + 0 * spans  # the predictor's gradient costs what it costs

    return edit
