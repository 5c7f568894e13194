"""Streams of made-up text: each batch row is written piece by piece, a piece from what the one before it left.

What a row says depends on its key alone, whatever rows are read beside it, in blocks of whatever length, and from
wherever reading goes on. Each row begins at a token of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.randomness import derive
from tasks.stream import Position, StreamBatch

WINDOW = 4096
"""Tokens of each row that are written at once, at least: a multiple of T, so that a window holds whole blocks."""

RowState = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Piece:
    """A stretch of a row's text, in which every answer is whole.

    Args:
        token: [n] what is read.
        item: [n] number of the answer that a token is part of, counted over the row's whole text; -1 for none. These
            tokens are to be predicted, each at the token before it.
        distance: [n] how far before it its source token stands, in tokens; -1 for none.
        kind: [n] kind of answer, a small number.
    """

    token: NDArray[np.int64]
    item: NDArray[np.int64]
    distance: NDArray[np.int64]
    kind: NDArray[np.int64]


class Writer(Protocol):
    """Writes the text of a row. What it carries from piece to piece has the same shapes for all rows and pieces."""

    def begin(self, key: int) -> RowState:
        """What the first piece of the row with this key is written from."""
        ...

    def write(self, key: int, state: RowState) -> tuple[Piece, RowState]:
        """The next piece, and what the one after it is written from."""
        ...


class TextStream:
    """Some rows of a split.

    Position: for each row the state that its window's first piece is written from and `offset`, the window's begin in
    that piece; and `read`, how many blocks were read.

    Args:
        writer: of the text.
        name: the task's id; seed, split: which text. A row's depends on (name, seed, split, row) alone.
        rows: the rows.
        length: T.
        unscored: tokens of each row that fill the memory before anything is scored.
        blocks: where the stream ends; None for never. Answers that do not end before it are not scored, nor those whose
            source stands before the row's first token.
    """

    def __init__(
        self,
        writer: Writer,
        name: str,
        seed: int,
        split: str,
        rows: range,
        length: int,
        unscored: int = 0,
        blocks: int | None = None,
    ) -> None:
        self.writer, self.length, self.unscored, self.blocks = writer, length, unscored, blocks
        self.keys = [derive(seed, name, split, "row", row) for row in rows]
        self.rows = [_Row(writer, key) for key in self.keys]
        self.per_window = -(-WINDOW // length)  # blocks
        self.window: _Window | None = None

    def start(self) -> Position:
        """The beginning of all rows."""
        states = [self.writer.begin(key) for key in self.keys]
        lengths = [len(row.piece(state)[0]["token"]) for row, state in zip(self.rows, states, strict=True)]
        phases = [derive(key, "phase") % length for key, length in zip(self.keys, lengths, strict=True)]
        return _position(states, phases, 0)

    def read(self, position: Position) -> StreamBatch:
        window, read = self._window(position), int(position["read"])
        columns = slice(read % self.per_window * self.length, (read % self.per_window + 1) * self.length)
        ended = (read + 1) % self.per_window == 0
        return StreamBatch(
            inputs=torch.from_numpy(window.token[:, :-1][:, columns]),
            targets=torch.from_numpy(window.token[:, 1:][:, columns]),
            weights=torch.from_numpy(window.scored[:, columns].astype(np.float32)),
            reset=torch.zeros(len(self.keys), dtype=torch.bool),
            position={**(window.after if ended else position), "read": torch.tensor(read + 1)},
            distance=torch.from_numpy(window.distance[:, columns]),
            item=torch.from_numpy(window.item[:, columns]),
            kind=torch.from_numpy(window.kind[:, columns]),
        )

    def _window(self, position: Position) -> _Window:
        """The window that a position lies in: the one at hand, if it begins with the same state."""
        if self.window is None or not self.window.begins_at(position):
            self.window = _Window(self, position)
        return self.window


class _Window:
    """`WINDOW` tokens of every row, and one more. All but `token` are of the token behind each, which is predicted."""

    def __init__(self, stream: TextStream, position: Position) -> None:
        self.before = {name: tensor for name, tensor in position.items() if name != "read"}
        size = stream.per_window * stream.length
        began = int(position["read"]) // stream.per_window * size  # tokens of the row before the window
        rows = [
            _written(row, {name: x[number].numpy() for name, x in self.before.items()}, size)
            for number, row in enumerate(stream.rows)
        ]
        self.after = _position([state for _, state, _ in rows], [offset for _, _, offset in rows], 0)
        self.token = np.stack([arrays["token"] for arrays, _, _ in rows])
        item, self.distance, self.kind = (
            np.stack([arrays[name][1:] for arrays, _, _ in rows]) for name in ("item", "distance", "kind")
        )
        first, last, source = (
            np.stack([arrays[name][1:] for arrays, _, _ in rows]) + began for name in ("first", "last", "source")
        )
        # Whole answers, which memory could be full for, and whose sources were read.
        self.scored = (item >= 0) & (first > stream.unscored) & (source >= 0)
        if stream.blocks is not None:
            self.scored &= last <= stream.blocks * stream.length
        self.item = np.where(self.scored, item, -1)

    def begins_at(self, position: Position) -> bool:
        """Whether this is the window that begins with the state of a position."""
        return all(
            tensor is position[name] or torch.equal(tensor, position[name]) for name, tensor in self.before.items()
        )


class _Row:
    """A row's pieces, the last one kept: one may be longer than a window, and is not to be written for each."""

    def __init__(self, writer: Writer, key: int) -> None:
        self.writer, self.key = writer, key
        self._last: tuple[RowState, dict[str, NDArray[np.int64]], RowState] | None = None

    def piece(self, state: RowState) -> tuple[dict[str, NDArray[np.int64]], RowState]:
        """The piece that is written from a state, by field and with `_ends`, and the state after it."""
        if self._last is None or not all(np.array_equal(self._last[0][name], value) for name, value in state.items()):
            piece, after = self.writer.write(self.key, state)
            arrays = {field.name: getattr(piece, field.name) for field in fields(piece)}
            self._last = state, arrays | _ends(piece), after
        return self._last[1:]


def _written(row: _Row, before: RowState, size: int) -> tuple[dict[str, NDArray[np.int64]], RowState, int]:
    """The arrays of size + 1 tokens of a row, and the state and offset with which the next `size` begin.

    Places in it count from the first of these tokens.
    """
    state: RowState = {name: value for name, value in before.items() if name != "offset"}
    start = int(before["offset"])
    begin, pieces = -start, []
    while True:
        arrays, following = row.piece(state)
        pieces.append({name: array + begin if name in _PLACES else array for name, array in arrays.items()})
        if begin + len(arrays["token"]) > size:
            break
        begin, state = begin + len(arrays["token"]), following
    joined = {name: np.concatenate([arrays[name] for arrays in pieces]) for name in pieces[0]}
    return {name: array[start : start + size + 1] for name, array in joined.items()}, state, size - begin


_PLACES = ("first", "last", "source")


def _ends(piece: Piece) -> dict[str, NDArray[np.int64]]:
    """Of the answer that each token is part of: the places of its first and last token, and of its earliest source.

    Places count from the piece's first token.
    """
    number = np.unique(piece.item, return_inverse=True)[1]
    place = np.arange(len(number))
    source = np.where(piece.distance >= 0, place - piece.distance, place)
    count = number.max() + 1
    first, last, earliest = np.full(count, place[-1]), np.zeros(count, dtype=place.dtype), np.full(count, place[-1])
    np.minimum.at(first, number, place)
    np.maximum.at(last, number, place)
    np.minimum.at(earliest, number, source)
    return {"first": first[number], "last": last[number], "source": earliest[number]}


def _position(states: list[RowState], offsets: list[int], read: int) -> Position:
    named = {name: torch.from_numpy(np.stack([state[name] for state in states])) for name in states[0]}
    return {**named, "offset": torch.tensor(offsets), "read": torch.tensor(read)}
