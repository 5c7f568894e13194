"""One training step on a block of a stream, up to the gradients: what the Lightning module and the clock both run.

The rows of a block are read in groups (gradient accumulation); every row keeps its own memory, so 4 x 2 rows give the
gradients of 8 rows:

    loss = sum(w * nll) / max(sum(w), 1) + auxiliary loss

A block without targets gives no gradients, and advances memory all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone, Output
from models.state import State, detach, join_rows, reset_rows, rows
from tasks.stream import StreamBatch


@dataclass(frozen=True)
class Read:
    """What reading a block gave.

    Args:
        state: the memory after it, detached.
        nats: the summed weighted loss, a scalar.
        statistics: named scalars of the layers, each the mean over groups.
        learns: whether there are gradients.
    """

    state: State
    nats: Tensor
    statistics: dict[str, Tensor]
    learns: bool


def read_block(
    model: Backbone,
    batch: StreamBatch,
    carried: State | None,
    randomness: float,
    groups: int,
    divisor: Tensor,
    backward: Callable[[Tensor], None],
    edit_spans: Callable[[int, Tensor], Tensor] | None = None,
    auxiliary: float = 1.0,
) -> Read:
    """Reads a block of every row and back-propagates its loss.

    Args:
        model: in training mode.
        batch: the block, B rows.
        carried: the memory that the block before left; None at the start.
        randomness: this step's u in (0, 1).
        groups: into how many groups of rows the block is split; divides B.
        divisor: what the summed loss is divided by (`loss_divisor`); 0 for a block that nothing is learned from.
        backward: adds a scalar loss's gradients up.
        edit_spans: replaces predicted spans, see `Backbone.forward`; the clock controls memory sizes with it.
        auxiliary: the share of the auxiliary loss that counts, where a step reads several blocks.
    """
    state = enter(model, carried, batch)
    size = batch.reset.shape[0] // groups
    kept: list[State] = []
    nats = torch.zeros((), dtype=exact(batch.weights.device), device=batch.weights.device)
    named: list[dict[str, Tensor]] = []
    learns = bool(divisor > 0)
    for group in range(groups):
        share = slice(group * size, (group + 1) * size)
        part = batch.rows(share)
        with torch.set_grad_enabled(learns):
            output = model(part.inputs, rows(state, share), randomness, edit_spans)
            weighted = (token_nll(output, part) * part.weights).sum()
            if learns:
                backward(weighted / divisor + output.aux_loss * (auxiliary / groups))
        kept.append(detach(output.state))
        nats += weighted.detach().to(nats.dtype)
        named.append(output.statistics)
    statistics = {name: torch.stack([group[name] for group in named]).mean() for name in named[0]}
    return Read(kept[0] if groups == 1 else join_rows(kept), nats, statistics, learns)


def loss_divisor(weights: Tensor, ranks: int = 1) -> Tensor:
    """max(sum(w), 1) over all ranks as each rank's share, so that DDP's mean of gradients is right; 0 without targets.

    Args:
        weights: summed weights of the step's targets: a scalar, the mean over ranks.
        ranks: how many processes share the step.
    """
    return weights if bool(weights == 0) else weights.clamp(min=1 / ranks)


def enter(model: Backbone, state: State | None, batch: StreamBatch) -> State:
    """The memory that a block is read with: fresh at the start, rows reset where the batch says so."""
    if state is not None and not bool(batch.reset.any()):
        return state
    fresh = model.init_state(batch.reset.shape[0])
    return fresh if state is None else reset_rows(state, fresh, batch.reset)


def token_nll(output: Output, batch: StreamBatch) -> Tensor:
    """Negative log-likelihood of the targets in nats [B, T]; computed in float32 at least."""
    logits = output.y if output.y.dtype == torch.float64 else output.y.float()
    return functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none").view_as(
        batch.targets
    )


def exact(device: torch.device) -> torch.dtype:
    """The type that losses are added up in: float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
