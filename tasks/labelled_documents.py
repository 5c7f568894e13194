"""Documents in which names are to be labelled with what a fact, before or after them, says of them.

Tokens: fillers, names, and facts, one token for each (name, class). A document says one fact of every name, once, at a
random place; elsewhere a token is a name with a given probability, else a filler. The label of a name where it is
mentioned is the class that its fact has in this document. Fillers and facts have no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.randomness import derive
from tasks.stream import Position, StreamBatch

BEFORE, AFTER = 0, 1
"""Kinds of label: whether the fact stands before its mention, or after it."""


@dataclass(frozen=True)
class Documents:
    """What documents are like.

    Args:
        tokens: of each.
        names, classes, fillers: how many there are.
        mention: the probability that a token that is no fact is a name.
    """

    tokens: int
    names: int
    classes: int
    fillers: int
    mention: float

    @property
    def vocabulary(self) -> int:
        """Tokens: fillers, then names, then facts, those of a name side by side."""
        return self.fillers + self.names + self.names * self.classes

    def words(self) -> tuple[str, ...]:
        """How tokens are shown: ``.`` for fillers, ``A`` a name, ``A=2`` the fact that its class is 2."""
        names = [chr(ord("A") + name) if name < 26 else f"N{name}" for name in range(self.names)]
        facts = [f"{name}={number}" for name in names for number in range(self.classes)]
        return (*("." for _ in range(self.fillers)), *names, *facts)

    def write(self, key: int, number: int) -> dict[str, NDArray[Any]]:
        """Document `number` of the row with this key, [tokens] each: token, label, mentioned, distance (-1), kind."""
        draws = np.random.default_rng([key, number])
        place = draws.permutation(self.tokens)[: self.names]  # of each name's fact
        named = draws.integers(self.classes, size=self.names)  # its class
        name = draws.integers(self.names, size=self.tokens)
        mentioned = draws.random(self.tokens) < self.mention
        mentioned[place] = False
        token = np.where(mentioned, self.fillers + name, draws.integers(self.fillers, size=self.tokens))
        token[place] = self.fillers + self.names + np.arange(self.names) * self.classes + named
        away = np.arange(self.tokens) - place[name]
        return {
            "token": token,
            "label": np.where(mentioned, named[name], 0),
            "mentioned": mentioned,
            "distance": np.where(mentioned, np.abs(away), -1),
            "kind": np.where(away > 0, BEFORE, AFTER),
        }


class DocumentStream:
    """Documents of some rows of a split. Position: `read`, how many of each row were read.

    Args:
        documents: what they are like.
        name, seed, split: which; a row's depend on (name, seed, split, row) alone.
        rows: the rows.
        count: documents of a row; None for no end.
    """

    def __init__(
        self, documents: Documents, name: str, seed: int, split: str, rows: range, count: int | None = None
    ) -> None:
        self.documents, self.blocks = documents, count
        self.keys = [derive(seed, name, split, "row", row) for row in rows]

    def start(self) -> Position:
        """The first document of every row."""
        return {"read": torch.tensor(0)}

    def read(self, position: Position) -> StreamBatch:
        number = int(position["read"])
        rows = [self.documents.write(key, number) for key in self.keys]
        named = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        item = torch.arange(named["token"].shape[1]).expand(len(rows), -1) + number * named["token"].shape[1]
        return StreamBatch(
            inputs=named["token"],
            targets=named["label"],
            weights=named["mentioned"].float(),
            reset=torch.ones(len(rows), dtype=torch.bool),
            position={"read": torch.tensor(number + 1)},
            distance=named["distance"],
            item=torch.where(named["mentioned"], item, -1),
            kind=named["kind"],
        )
