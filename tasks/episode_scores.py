"""Scores of evaluated episodes: by who acted, and the task's metric by what the worlds were like."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tasks.stream import Score

Who = Literal["greedy", "sampled", "oracle", "reactive", "chance"]
"""The model with its likeliest actions, or with actions that are drawn; one who knows all; the best who remembers
nothing; one who draws any action."""

BESIDE: tuple[Who, ...] = ("oracle", "reactive", "chance")
"""Those who need no training."""
_ACTIONS: dict[Who, str] = {"greedy": "likeliest", "sampled": "drawn"}
_PARTS = 10


class EpisodeScores:
    """Collects what episodes were worth.

    Args:
        metric, unit: of the score; higher is better.
        who: whose episodes the metric is of, ``greedy`` or ``sampled``; the others' are called ``<metric>_<who>``.
        context: what a reader needs to judge the scores.
    """

    def __init__(self, metric: str, unit: str, who: Who, context: dict[str, str | int | float | bool]) -> None:
        self.metric, self.unit, self.who, self.context = metric, unit, who, context
        self._values: dict[Who, list[Tensor]] = {}
        self._groups: dict[Who, list[Tensor]] = {}

    def count(self, value: Tensor, who: Who, group: Tensor | None = None) -> None:
        """Counts episodes: what each was worth [B], and perhaps a whole number to group them by [B]."""
        self._values.setdefault(who, []).append(value.cpu().double())
        if group is not None:
            self._groups.setdefault(who, []).append(group.cpu())

    def means(self) -> list[Score]:
        """The metric, then the score of whoever else acted."""
        found = []
        for who in sorted(self._values, key=lambda who: who != self.who):
            value = torch.cat(self._values[who])
            name, context = self.named(self.metric, who), self.context_of(who)
            found.append(Score(name, float(value.mean()), self.unit, len(value), True, context))
        return found

    def named(self, metric: str, who: Who) -> str:
        """A metric's name when `who` acted."""
        return metric if who == self.who else f"{metric}_{who}"

    def context_of(self, who: Who) -> dict[str, str | int | float | bool]:
        """What a reader needs to judge a score; of the model's also which of its actions were taken."""
        return {**self.context, **({"actions": _ACTIONS[who]} if who in _ACTIONS else {})}

    def by_group(self, name: str, low: int, high: int) -> list[Score]:
        """``<metric>_by_<name>`` for each part of low .. high that there is, of at most `_PARTS` of the same size.

        Its ends stand in the context, as ``<name>_min`` and ``<name>_max``. The metric's first, then those of `BESIDE`.
        """
        size = -(-(high - low + 1) // _PARTS)
        found = []
        for who in (self.who, *(who for who in BESIDE if who in self._groups)):
            value, part = torch.cat(self._values[who]), (torch.cat(self._groups[who]) - low) // size
            for number in sorted(set(part.tolist())):
                inside = value[part == number]
                first = low + number * size
                ends = {f"{name}_min": first, f"{name}_max": min(first + size - 1, high)}
                metric, context = f"{self.named(self.metric, who)}_by_{name}", {**self.context_of(who), **ends}
                found.append(Score(metric, float(inside.mean()), self.unit, len(inside), True, context))
        return found
