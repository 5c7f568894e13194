"""Error rate in per cent over the positions that are scored, and by how far their source stands before them."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.stream import Score, StreamBatch


class ErrorRate:
    """Counts wrong answers.

    Its first score is ``error``, over all scored positions; ``error_chance`` is that of one who always gives the answer
    that is right most often. Then follows one ``error_by_distance`` for each power of
    two that has any, whose context says which: ``distance`` as text, such as ``1024-2047``, and its two ends
    ``distance_min`` and ``distance_max`` in tokens.

    Args:
        context: what a reader needs to judge the scores.
    """

    def __init__(self, context: dict[str, str | int | float | bool]) -> None:
        self.context = context
        self.count = torch.zeros(64, dtype=torch.long)
        self.wrong = torch.zeros(64, dtype=torch.long)
        self.targets = torch.zeros(0, dtype=torch.long)

    def add(self, batch: StreamBatch, logits: Tensor, nll: Tensor) -> None:
        """Counts the positions with a weight; the answer is the class with the greatest logit."""
        assert batch.distance is not None
        scored = batch.weights > 0
        wrong = (logits.argmax(-1) != batch.targets)[scored].cpu()
        number = distance_bin(batch.distance[scored].cpu())
        self.count += torch.bincount(number, minlength=64)
        self.wrong += torch.bincount(number[wrong], minlength=64)
        targets = torch.bincount(batch.targets[scored].cpu(), minlength=logits.shape[-1])
        self.targets = targets + (self.targets if len(self.targets) else 0)

    def scores(self) -> list[Score]:
        count, wrong = int(self.count.sum()), int(self.wrong.sum())
        if count == 0:
            raise RuntimeError("no position was scored: the evaluation is too short, or nothing in it has an answer")
        chance = 100 * (1 - int(self.targets.max()) / count)
        found = [
            Score("error", 100 * wrong / count, "%", count, False, self.context),
            Score("error_chance", chance, "%", count, False, self.context),
        ]
        for number in self.count.nonzero().flatten().tolist():
            n = int(self.count[number])
            value = 100 * int(self.wrong[number]) / n
            context = {**self.context, **bin_context(number)}
            found.append(Score("error_by_distance", value, "%", n, False, context))
        return found


def distance_bin(distance: Tensor) -> Tensor:
    """The bin of each distance: 0 for 0, b for 2^(b-1) .. 2^b - 1. Raises ValueError for a distance below 0."""
    if bool((distance < 0).any()):
        raise ValueError("a scored position has no distance")
    return torch.frexp(distance.double()).exponent.long()


def bin_ends(number: int) -> tuple[int, int]:
    """The least and the greatest distance of a bin."""
    return (2 ** (number - 1), 2**number - 1) if number else (0, 0)


def bin_context(number: int) -> dict[str, str | int]:
    """What a row of a bin says of it: `distance`, as text, with `distance_min` and `distance_max`."""
    low, high = bin_ends(number)
    return {"distance": f"{low}-{high}" if high else "0", "distance_min": low, "distance_max": high}
