"""Made-up text for a reader: a stretch of a stream as words, and a table of what many are like."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tasks.randomness import derive
from tasks.text_stream import Piece, TextStream, Writer

_TOKENS = 200_000


def written(writer: Writer, key: int, tokens: int) -> list[Piece]:
    """The pieces of a row, until they have `tokens` tokens."""
    state, pieces, length = writer.begin(key), [], 0
    while length < tokens:
        piece, state = writer.write(key, state)
        pieces.append(piece)
        length += len(piece.token)
    return pieces


def show(writer: Writer, name: str, seed: int, between: str, words: Sequence[str], tokens: int) -> None:
    """Prints the first tokens of a row; what a model has to say stands in brackets."""
    piece = written(writer, derive(seed, name, "show", "row", 0), tokens)[0]
    told = []
    for place in range(min(tokens, len(piece.token))):
        item = piece.item[place]
        begins = item >= 0 and (place == 0 or piece.item[place - 1] != item)
        ends = item >= 0 and (place + 1 == len(piece.token) or piece.item[place + 1] != item)
        told.append(("[" if begins else "") + words[piece.token[place]] + ("]" if ends else ""))
    print(between.join(told))


def print_statistics(writer: Writer, name: str, seed: int) -> None:
    """Prints a table of what 200,000 tokens are like, and how fast blocks are read."""
    pieces = written(writer, derive(seed, name, "show", "row", 0), _TOKENS)
    item, distance = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("item", "distance"))
    known = np.sort(distance[distance >= 0])
    answers = len(np.unique(item[item >= 0]))
    rows = [
        ("tokens to be said", f"{100 * (item >= 0).mean():.1f} %"),
        ("tokens per answer", f"{(item >= 0).sum() / answers:.1f}"),
        *(
            (f"distance to the source, {what}", f"{known[int(share * (len(known) - 1))]:,} tokens")
            for what, share in (("least", 0.0), ("median", 0.5), ("three quarters within", 0.75), ("greatest", 1.0))
        ),
        ("tokens per second, 64 rows in blocks of 32, one core", f"{speed(writer, name):,.0f}"),
    ]
    width = max(len(name) for name, _ in rows)
    for what, value in rows:
        print(f"{what:<{width}}  {value}")


def speed(writer: Writer, name: str, rows: int = 64, length: int = 32, blocks: int = 512) -> float:
    """Tokens per second of processor time that a stream gives."""
    stream = TextStream(writer, name, 0, "speed", range(rows), length)
    position = stream.start()
    begin = time.process_time()
    for _ in range(blocks):
        position = stream.read(position).position
    return rows * length * blocks / (time.process_time() - begin)
