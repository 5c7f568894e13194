"""Scores of evaluated episodes: by who acted, and greedy ones by what the worlds were like."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tasks.stream import Score

Who = Literal["greedy", "sampled", "oracle", "reactive", "chance"]
"""The model with its likeliest actions, or with actions that are drawn; one who knows all; the best who remembers
nothing; one who draws any action."""

_PARTS = 10


class EpisodeScores:
    """Collects what episodes were worth.

    Args:
        metric, unit: of the score, of greedy actions; higher is better. The others' are called ``<metric>_<who>``.
        context: what a reader needs to judge the scores.
    """

    def __init__(self, metric: str, unit: str, context: dict[str, str | int | float | bool]) -> None:
        self.metric, self.unit, self.context = metric, unit, context
        self._values: dict[Who, list[Tensor]] = {}
        self._groups: list[Tensor] = []

    def count(self, value: Tensor, who: Who, group: Tensor | None = None) -> None:
        """Counts episodes: what each was worth [B], and for greedy ones perhaps a whole number to group them by [B]."""
        self._values.setdefault(who, []).append(value.cpu().double())
        if who == "greedy" and group is not None:
            self._groups.append(group.cpu())

    def means(self) -> list[Score]:
        """The metric for greedy actions, and for whoever else acted."""
        found = []
        for who, values in self._values.items():
            value, name = torch.cat(values), self.metric if who == "greedy" else f"{self.metric}_{who}"
            found.append(Score(name, float(value.mean()), self.unit, len(value), True, self.context))
        return found

    def by_group(self, name: str, low: int, high: int) -> list[Score]:
        """``<metric>_by_<name>`` for each part of low .. high that there is, of at most `_PARTS` of the same size.

        Its ends stand in the context, as ``<name>_min`` and ``<name>_max``.
        """
        value, group = torch.cat(self._values["greedy"]), torch.cat(self._groups)
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
                    **self.context,
                    f"{name}_min": low + number * size,
                    f"{name}_max": min(low + (number + 1) * size - 1, high),
                },
            )
            for number in sorted(set(part.tolist()))
        ]
