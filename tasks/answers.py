"""Answers of several tokens: how many tokens, and how many whole answers, a model gets right; and from how far back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tasks.distance_bins import bin_context, distance_bin
from tasks.stream import Score, StreamBatch

Context = dict[str, str | int | float | bool]


class Answers:
    """Collects the tokens that are scored, of whole answers.

    Args:
        context: what a reader needs to judge the scores.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._tokens: list[Tensor] = []

    def add(self, batch: StreamBatch, logits: Tensor, nll: Tensor) -> None:
        """Counts the positions with a weight; the prediction is the class with the greatest logit."""
        assert batch.item is not None
        assert batch.distance is not None
        assert batch.kind is not None
        row, column = (batch.weights > 0).nonzero(as_tuple=True)
        right = logits[row, column].argmax(-1) == batch.targets[row, column]
        named = [row, *(x[row, column] for x in (batch.item, batch.distance, batch.kind)), right]
        self._tokens.append(torch.stack([x.long() for x in named]).cpu())

    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every token [n] that was scored: its distance (-1 for none), its kind, whether it was right."""
        _, _, distance, kind, right = self._all()
        return distance, kind, right.bool()

    def whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same of every answer: the distance of its first token, its kind, whether all its tokens were right."""
        row, item, distance, kind, right = self._all()
        _, number = torch.unique(row * (item.max() + 1) + item, return_inverse=True)
        count, place = int(number.max()) + 1, torch.arange(len(number))
        first = torch.full((count,), len(number)).scatter_reduce(0, number, place, "amin")
        wrong = torch.bincount(number, weights=1.0 - right, minlength=count)
        return distance[first], kind[first], wrong == 0

    def _all(self) -> Tensor:
        found = torch.cat(self._tokens, dim=1) if self._tokens else torch.empty(5, 0)
        if found.shape[1] == 0:
            raise RuntimeError("no position was scored: the evaluation is too short, or nothing in it has an answer")
        return found

    def share(self, metric: str, right: Tensor, **more: str | float) -> Score:
        """The share of what is right, in per cent."""
        n = len(right)
        return Score(metric, 100 * float(right.sum()) / n, "%", n, True, {**self.context, **more})

    def by_distance(self, metric: str, distance: Tensor, right: Tensor) -> Iterator[Score]:
        """The share of what is right for each power of two of distances that has any."""
        known = distance >= 0
        distance, right = distance[known], right[known]
        number = distance_bin(distance)
        for bin_number in sorted(set(number.tolist())):
            yield self.share(metric, right[number == bin_number], **bin_context(bin_number))
