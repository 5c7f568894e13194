"""The rows of a batch, which are computed some at a time, and where their slots stand in what holds them.

Slots come from several sources, oldest first: a source is dense [B, S, ...], or (the first alone) ragged [sum of
lengths, ...], its rows one behind the other. The columns of a group of rows end at its newest slots; a row with fewer
slots than others has columns without a slot on the left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Rows that are computed at once: `first` to `last` (exclusive), with `columns` keys each."""

    first: int
    last: int
    columns: int
    lengths: tuple[int, ...] | None
    """Slots of each row in the ragged source, if there is one."""

    @property
    def rows(self) -> slice:
        return slice(self.first, self.last)

    @property
    def count(self) -> int:
        return self.last - self.first


class Rows:
    """The rows of a batch.

    Args:
        batch: B.
        slots: of each source: the same number for all rows, or each row's if it is ragged.
        device: where the sources are.
    """

    def __init__(self, batch: int, slots: Sequence[int | tuple[int, ...]], device: torch.device) -> None:
        self.batch, self.slots, self.device = batch, slots, device
        self.lengths = slots[0] if isinstance(slots[0], tuple) else None
        self.dense = sum(count for count in slots if isinstance(count, int))
        self.starts = [0, *itertools.accumulate(self.lengths or ())]
        if any(isinstance(count, tuple) for count in slots[1:]):
            raise ValueError("only the first source may be ragged")
        self._placed: tuple[Group | None, Tensor, Tensor | None] = (None, torch.empty(0), None)

    def groups(self, room: int) -> Iterator[Group]:
        """All rows, so many at a time that their columns are at most `room`; one row at least."""
        columns = [self.dense + (self.lengths[row] if self.lengths else 0) for row in range(self.batch)]
        first, most = 0, columns[0]
        for row in range(1, self.batch):
            if (row + 1 - first) * max(most, columns[row]) > room:
                yield self._group(first, row, most)
                first, most = row, columns[row]
            most = max(most, columns[row])
        yield self._group(first, self.batch, most)

    def _group(self, first: int, last: int, columns: int) -> Group:
        return Group(first, last, columns, self.lengths[first:last] if self.lengths else None)

    def places(self, group: Group) -> list[slice]:
        """The columns of each source."""
        found, end = [], group.columns
        for count in reversed(self.slots):
            begin = end - count if isinstance(count, int) else 0
            found.append(slice(begin, end))
            end = begin
        return found[::-1]

    def taken(self, x: Tensor, number: int, group: Group) -> Tensor:
        """What a group has of a tensor with a source's slots, [rows, slots, ...]; 0 where a row has no slot."""
        if not isinstance(self.slots[number], tuple):
            return x[group.rows]
        if group.count == 1:
            return x[None, self.starts[group.first] : self.starts[group.last]]
        index, missing = self._place(group)
        taken = x.index_select(0, index.flatten()).view(group.count, -1, *x.shape[1:])
        if missing is not None:  # another row's slots stand there
            taken.masked_fill_(missing.view(*missing.shape, *(1,) * (x.dim() - 1)), 0)
        return taken

    def add(self, into: Tensor, number: int, group: Group, grad: Tensor) -> None:
        """Adds a group's gradient [rows, slots, ...] to that of a source's slots; 0 where there is no slot."""
        if isinstance(self.slots[number], tuple) and group.count > 1:
            into.index_add_(0, self._place(group)[0].flatten(), grad.flatten(0, 1))
        else:
            self.taken(into, number, group).add_(grad)

    def missing(self, group: Group) -> Tensor | None:
        """Which of the ragged source's columns are no slot of the row, [rows, slots]; None where all are."""
        return None if group.lengths is None else self._place(group)[1]

    def _place(self, group: Group) -> tuple[Tensor, Tensor | None]:
        """Where in the ragged source the slots of a group's columns stand, [rows, slots]; and which are missing."""
        if self._placed[0] != group:
            assert group.lengths is not None
            ends = torch.tensor(self.starts[group.first + 1 : group.last + 1], device=self.device)
            before = torch.arange(self.dense - group.columns, 0, device=self.device)
            missing = None
            if min(group.lengths) != max(group.lengths):
                missing = before < -torch.tensor(group.lengths, device=self.device)[:, None]
            self._placed = group, (ends[:, None] + before).clamp_(min=0), missing
        return self._placed[1:]
