"""Scores of evaluated episodes: by who acted, and the task's metric by what the worlds were like."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tasks.stream import Score

Who = Literal["greedy", "sampled", "oracle", "reactive", "chance"]
"""The model with its likeliest actions, or with actions that are drawn; one who knows all; the best who remembers
nothing; one who draws any action."""

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
        self._groups: list[Tensor] = []

    def count(self, value: Tensor, who: Who, group: Tensor | None = None) -> None:
        """Counts episodes: what each was worth [B], and perhaps a whole number to group the metric by [B]."""
        self._values.setdefault(who, []).append(value.cpu().double())
        if who == self.who and group is not None:
            self._groups.append(group.cpu())

    def means(self) -> list[Score]:
        """The metric, then the score of whoever else acted."""
        found = []
        for who in sorted(self._values, key=lambda who: who != self.who):
            value, name = torch.cat(self._values[who]), self.metric if who == self.who else f"{self.metric}_{who}"
            found.append(Score(name, float(value.mean()), self.unit, len(value), True, self.context_of(who)))
        return found

    def context_of(self, who: Who) -> dict[str, str | int | float | bool]:
        """What a reader needs to judge a score; of the model's also which of its actions were taken."""
        return {**self.context, **({"actions": _ACTIONS[who]} if who in _ACTIONS else {})}

    def by_group(self, name: str, low: int, high: int) -> list[Score]:
        """``<metric>_by_<name>`` for each part of low .. high that there is, of at most `_PARTS` of the same size.

        Its ends stand in the context, as ``<name>_min`` and ``<name>_max``.
        """
        value, group = torch.cat(self._values[self.who]), torch.cat(self._groups)
        size = -(-(high - low + 1) // _PARTS)
        part = (group - low) // size
        return [
            Score(
                f"{self.metric}_by_{name}",
                float(value[part == number].mean()),
                self.unit,
                int((part == number).sum()),
                True,
                {
                    **self.context_of(self.who),
                    f"{name}_min": low + number * size,
                    f"{name}_max": min(low + (number + 1) * size - 1, high),
                },
            )
            for number in sorted(set(part.tolist()))
        ]
