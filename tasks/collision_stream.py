"""Streams of object_collision: the worlds' steps as blocks of T tokens, one endless world per batch row.

The worlds are advanced by stretches of many steps, of which the last one read is kept; a position holds the worlds'
state where its stretch begins and how many blocks were read, so that any position can be re-entered by itself. A row
begins within a step, at a token of its own.
"""

from __future__ import annotations

import functools
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.collision_draws import world_key
from tasks.collision_motion import Motion
from tasks.collision_world import TOKENS, Rules, State, Stretch, advance, begin
from tasks.randomness import derive
from tasks.stream import Position, StreamBatch

STRETCH = 1024
"""Steps that worlds are advanced by, at least: a multiple of T, so that a stretch holds whole blocks."""


class CollisionStream:
    """Some rows of a split, read from where the worlds have been left to themselves for a while.

    Position: the state of the worlds at the stretch's begin, by name, and `read`, how many blocks were read.

    Args:
        rules: of the worlds.
        seed, split: which worlds; a row's world depends on (seed, split, row) alone.
        rows: the rows.
        length: T.
        burn_in: steps that each world makes before its first token.
        unscored: tokens of each row that fill the memory before anything is scored.
        blocks: where the stream ends; None for never.
    """

    def __init__(
        self,
        rules: Rules,
        seed: int,
        split: str,
        rows: range,
        length: int,
        burn_in: int,
        unscored: int = 0,
        blocks: int | None = None,
    ) -> None:
        self.rules, self.length, self.burn_in, self.unscored, self.blocks = rules, length, burn_in, unscored, blocks
        self.keys = tuple(world_key(seed, split, row) for row in rows)
        # The token of a step that a row begins with.
        self.phase = np.array([derive(seed, "object_collision", split, "row", row, "phase") % TOKENS for row in rows])
        self.steps = length * -(-STRETCH // length)
        self.tape: _Tape | None = None

    def start(self) -> Position:
        """The position after burn-in."""
        return {
            **to_position(burned_in(self.rules, self.keys, self.burn_in)),
            "read": torch.zeros((), dtype=torch.long),
        }

    def read(self, position: Position) -> StreamBatch:
        tape = self._tape(position)
        read = int(position["read"])
        blocks_per_tape = self.steps * TOKENS // self.length
        begin = read % blocks_per_tape * self.length
        token = begin + self.phase[:, None] + np.arange(self.length)  # [B, T], counted from the tape's begin
        row = np.arange(len(self.keys))[:, None]
        step, within = np.divmod(token, TOKENS)
        answer = np.where(within == TOKENS - 1, tape.answer[row, step], 0)
        scored = (answer > 0) & (read * self.length + np.arange(self.length) >= self.unscored)
        distance = np.where(answer > 0, TOKENS * tape.age[row, step], -1)
        ended = (read + 1) % blocks_per_tape == 0
        return StreamBatch(
            inputs=torch.from_numpy(tape.tokens[row, token].astype(np.int64)),
            targets=torch.from_numpy(answer),
            weights=torch.from_numpy(scored.astype(np.float32)),
            reset=torch.zeros(len(self.keys), dtype=torch.bool),
            position={**(tape.after if ended else position), "read": torch.tensor(read + 1)},
            distance=torch.from_numpy(distance),
        )

    def _tape(self, position: Position) -> _Tape:
        """The steps from the position's state on: those at hand, if they are the ones."""
        if self.tape is None or not self.tape.begins_at(position):
            self.tape = _Tape(self.rules, self.keys, position, self.steps)
        return self.tape


class _Tape:
    """A stretch of steps, and one step more: rows that begin within a step end within one."""

    def __init__(self, rules: Rules, keys: tuple[int, ...], position: Position, steps: int) -> None:
        self.before = {name: tensor for name, tensor in position.items() if name != "read"}
        stretch, after = advance(rules, keys, to_state(position), steps)
        more, _ = advance(rules, keys, after, 1)
        self.after = to_position(after)
        self.tokens = _joined(stretch, more, "tokens").reshape(len(keys), -1)  # [B, 8 (S + 1)]
        self.answer = _joined(stretch, more, "answer")  # [B, S + 1]
        self.age = _joined(stretch, more, "age")

    def begins_at(self, position: Position) -> bool:
        """Whether this is the stretch that begins with the state of a position."""
        return all(
            tensor is position[name] or torch.equal(tensor, position[name]) for name, tensor in self.before.items()
        )


def _joined(first: Stretch, second: Stretch, name: str) -> NDArray[np.int64]:
    return np.concatenate([getattr(first, name), getattr(second, name)], axis=1)


@functools.lru_cache(maxsize=4)
def burned_in(rules: Rules, keys: tuple[int, ...], steps: int) -> State:
    """Worlds that have made some steps already. To be read only: whoever asks again gets the same arrays."""
    state, left = begin(rules, keys), steps
    while left:
        some = min(left, max(STRETCH, 2**17 // len(keys)))
        _, state = advance(rules, keys, state, some)
        left -= some
    return state


def to_position(state: State) -> Position:
    """A state as tensors by name."""
    named = {field.name: getattr(state, field.name) for field in fields(State)}
    motion = named.pop("motion")
    named |= {field.name: getattr(motion, field.name) for field in fields(Motion)}
    return {name: torch.from_numpy(np.array(value)) for name, value in named.items()}


def to_state(position: Position) -> State:
    """The state that `to_position` made tensors of."""

    def of(kind: type) -> dict[str, NDArray[np.float64]]:
        return {field.name: position[field.name].numpy() for field in fields(kind) if field.name in position}

    arrays = of(State)
    arrays["step"] = int(position["step"])  # type: ignore[assignment]
    return State(**arrays, motion=Motion(**of(Motion)))  # type: ignore[arg-type]
