"""Shortest ways through a portal's room: to one door without entering the other, for every pair of doors, made once."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from tasks.worlds import MOVES


@functools.cache
def ways(side: int, doors: tuple[int, ...]) -> Tensor:
    """The actions [doors, doors, cells] with which to go on: to the first door, not through the second, from each cell.

    Args:
        side: cells along a room's side, with its walls; cells are counted row by row.
        doors: the cells where doors may be.
    """
    cells = torch.arange(side**2)
    row, column = cells // side, cells % side
    floor = (row > 0) & (row < side - 1) & (column > 0) & (column < side - 1)
    cell = torch.tensor(doors)
    goal, other = torch.cartesian_prod(cell, cell).T[:, :, None]  # [pairs, 1] each
    free = (floor | (cells == goal)) & (cells != other)
    far = side**2
    steps = torch.where(cells == goal, 0, far)  # [pairs, cells] to the goal
    while True:
        near = _around(steps.view(-1, side, side), far).amin(0).flatten(1)
        fewer = torch.where(free, torch.minimum(steps, near + 1), far).clamp(max=far)
        if torch.equal(fewer, steps):
            break
        steps = fewer
    first = _around(steps.view(-1, side, side), far).argmin(0)
    return first.view(len(doors), len(doors), -1)


def _around(square: Tensor, far: int) -> Tensor:
    """What [pairs, side, side] holds one action away from each cell: [actions, pairs, side, side]; `far` outside."""
    side = square.shape[-1]
    padded = functional.pad(square, (1, 1, 1, 1), value=far)
    return torch.stack([padded[:, 1 + down : 1 + down + side, 1 + right : 1 + right + side] for down, right in MOVES])
