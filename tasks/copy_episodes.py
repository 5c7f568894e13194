"""Episodes of the extremely long copy: symbols, COPY, and some of the symbols once more.

    full:       s_1 ... s_n COPY s_1 ... s_n
    selective:  s_1 ... MARK s_i ... s_n COPY, then the k symbols that stood behind a MARK, in order

An episode draws n from n_min .. n_max. Numbers of a piece of text come from (the row's key, the piece's number) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.text_stream import WINDOW, Piece, RowState

SYMBOLS = 26
MARK, COPY = SYMBOLS, SYMBOLS + 1
VOCABULARY = SYMBOLS + 2
WORDS = (*"abcdefghijklmnopqrstuvwxyz", "!", "=")
"""How tokens are shown: ``!`` for MARK, ``=`` for COPY."""


@dataclass(frozen=True)
class CopyWriter:
    """Writes the episodes of a row. State: `piece`, how many pieces were written.

    Args:
        n_min, n_max: the least and the greatest number of symbols of an episode.
        marked: k, how many of them are to be copied; None for all, and no MARK.
    """

    n_min: int
    n_max: int
    marked: int | None

    def begin(self, key: int) -> RowState:
        return {"piece": np.array(0)}

    def write(self, key: int, state: RowState) -> tuple[Piece, RowState]:
        number = int(state["piece"])
        draws = np.random.Generator(np.random.Philox(key=np.array([key, 0], np.uint64), counter=[0, 0, 0, number]))
        count = -(-WINDOW // (2 * self.n_max))  # episodes
        n = draws.integers(self.n_min, self.n_max + 1, count)  # [episodes]
        symbol = draws.integers(SYMBOLS, size=(count, self.n_max))  # [episodes, n_max]
        there = np.arange(self.n_max) < n[:, None]
        if self.marked is None:
            copied, marks = there, 0
        else:
            rank = np.where(there, draws.random((count, self.n_max)), 2).argsort(1).argsort(1)
            copied, marks = rank < self.marked, 1
        # Places in the episode: a MARK takes one before its symbol.
        place = np.arange(self.n_max) + marks * copied.cumsum(1)
        again = copied.cumsum(1) - 1  # how many symbols are copied before it
        copies = copied.sum(1)
        copy = n + marks * copies  # where COPY stands
        length = copy + 1 + copies

        token = np.full((count, length.max()), MARK)
        item = np.full_like(token, -1)
        distance = np.full_like(token, -1)
        episode, which = there.nonzero()
        token[episode, place[episode, which]] = symbol[episode, which]
        token[np.arange(count), copy] = COPY
        episode, which = copied.nonzero()
        target = copy[episode] + 1 + again[episode, which]
        token[episode, target] = symbol[episode, which]
        item[episode, target] = number * count + episode
        distance[episode, target] = target - place[episode, which]
        inside = np.arange(token.shape[1]) < length[:, None]
        kind = np.zeros(int(length.sum()), dtype=np.int64)
        return Piece(token[inside], item[inside], distance[inside], kind), {"piece": np.array(number + 1)}
