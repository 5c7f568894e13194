"""Error rate in per cent over the positions that are scored, and by how far their source stands before them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.distance_bins import bin_context, distance_bin
from tasks.stream import Score, StreamBatch


class ErrorRate:
    """Counts wrong answers.

    Its first score is ``error``, over all scored positions; ``error_chance`` is that of one who always gives the answer
    that is right most often. Then follow ``error_by_distance`` and ``error_chance_by_distance`` for each power of two
    that has any, whose context says which: ``distance`` as text, such as ``1024-2047``, its two ends ``distance_min``
    and ``distance_max`` in tokens, and ``sources``: of how many different source tokens something was asked there.

    Args:
        context: what a reader needs to judge the scores.
    """

    def __init__(self, context: dict[str, str | int | float | bool]) -> None:
        self.context = context
        self.read = 0  # tokens of each row
        self._scored: list[Tensor] = []

    def add(self, batch: StreamBatch, logits: Tensor, nll: Tensor) -> None:
        """Counts the positions with a weight; the answer is the class with the greatest logit."""
        assert batch.distance is not None
        row, column = (batch.weights > 0).nonzero(as_tuple=True)
        distance, target = batch.distance[row, column], batch.targets[row, column]
        wrong = logits[row, column].argmax(-1) != target
        source = self.read + column - distance
        self._scored.append(torch.stack([distance, row, source, target, wrong.long()]).cpu())
        self.read += batch.weights.shape[1]

    def scores(self) -> list[Score]:
        scored = torch.cat(self._scored, dim=1) if self._scored else torch.empty(5, 0, dtype=torch.long)
        if scored.shape[1] == 0:
            raise RuntimeError("no position was scored: the evaluation is too short, or nothing in it has an answer")
        distance, row, source, target, wrong = scored
        guessed_wrong = (target != target.bincount().argmax()).long()
        number = distance_bin(distance)
        everywhere = torch.ones_like(number) > 0
        found = [
            self._share("error", wrong, everywhere, {}),
            self._share("error_chance", guessed_wrong, everywhere, {}),
        ]
        for metric, counted in (("error", wrong), ("error_chance", guessed_wrong)):
            for each in sorted(set(number.tolist())):
                inside = number == each
                sources = len(set(zip(row[inside].tolist(), source[inside].tolist(), strict=True)))
                context = {**bin_context(each), "sources": sources}
                found.append(self._share(f"{metric}_by_distance", counted, inside, context))
        return found

    def _share(self, metric: str, wrong: Tensor, inside: Tensor, more: Mapping[str, str | int]) -> Score:
        n = int(inside.sum())
        return Score(metric, 100 * int(wrong[inside].sum()) / n, "%", n, False, {**self.context, **more})
