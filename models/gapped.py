"""Attention to slots that were chosen, which have gaps in time, and to the open block behind them.

Slots stand in the order in which they were read: `count` of memory, then those of the open block, of which the last n
are the queries' own. A query sees all of memory and what stands before it in the block.

Notation: G is 1 where all heads have one memory, or H where each has its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from models.kernels.bands import Band
from models.kernels.work import Lane
from models.positions import distances, position_scores
from models.state import LayerState


def weights(query: Tensor, key: Tensor, p: Tensor, level: Tensor, time: Tensor, count: int, near: int) -> Tensor:
    """softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_i ), [B, H, n, S].

    Args:
        query, key: [B, H, n, D], [B, H, S, D].
        p: position vectors [D, P].
        level: s, what is added to the scores of a slot, [B, G, S].
        time: when each was read, [B, G, S].
        count: slots of memory.
        near: how many of them, the newest, may have positions.
    """
    n, inside = query.shape[2], key.shape[2] - count
    position = torch.cat([terms(query, p, time, count, near), position_scores(query, p, inside)], dim=-1)
    position = functional.pad(position, (count - near, 0))
    score = (query @ key.mT + position) / query.shape[-1] ** 0.5 + level[:, :, None]
    seen = functional.pad(distances(n, inside, query.device) >= 1, (count, 0), value=True)
    found: Tensor = score.masked_fill(~seen, -torch.inf).softmax(-1)
    return found


def terms(query: Tensor, p: Tensor, time: Tensor, count: int, near: int) -> Tensor:
    """Position terms [B, H, n, near] of memory's newest slots; zero where a distance is not one of 1 .. P.

    Args: as for `weights`.
    """
    now = time[..., time.shape[-1] - query.shape[2] :, None]  # [B, G, n, 1]
    away = now - time[:, :, None, count - near : count]  # [B, G, n, near]
    by_distance, reach = query @ p, p.shape[1]  # [B, H, n, P], distance P first
    within = (away >= 1) & (away <= reach)
    column = torch.where(within, reach - away, 0).expand(*by_distance.shape[:2], -1, -1)
    return by_distance.gather(-1, column).masked_fill(~within, 0)


def lanes(heads: int, n: int, count: int, inside: int) -> list[Lane]:
    """What n queries of so many heads see, for the kernel: all of memory, and of the open block what is before them."""
    memory = Band(lag=0, size=count, behind=inside, rate=n + 1)  # no query comes so far that it would see more
    return [Lane(slice(0, heads), (memory, Band(lag=n, size=inside)))]


def mean_age(state: LayerState) -> Tensor:
    """How many tokens before the open block a row's slots were read, on average; 0 for a row of which none was.

    Returns:
        the mean over rows, a scalar.
    """
    age, read = state["clock"] - state["time"].flatten(1), state["read"].flatten(1)
    return ((age * read).sum(1) / read.sum(1).clamp(min=1)).mean()


def kept(slots: Mapping[str, Tensor], chosen: Tensor) -> LayerState:
    """What the chosen slots have of tensors [B, S, ...] (or [B, S, H, ...]): their places are [B, m] (or [B, m, H])."""
    found = {}
    for name, part in slots.items():
        index = chosen.view(*chosen.shape, *(1,) * (part.dim() - chosen.dim()))
        found[name] = part.gather(1, index.expand(*chosen.shape, *part.shape[chosen.dim() :]))
    return found
