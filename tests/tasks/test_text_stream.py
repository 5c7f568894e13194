"""Made-up text: the same in whatever blocks, beside whatever rows and from wherever read; answers scored whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tasks import instruction, long_copy
from tasks.copy_episodes import CopyWriter
from tasks.stream import Position, StreamBatch
from tasks.text_stream import WINDOW, TextStream, Writer
from tasks.train_settings import TrainSettings

WRITERS: dict[str, Writer] = {
    "copies": CopyWriter(3, 9, None),
    "marked copies": CopyWriter(5, 5, 2),
    "instructions": instruction.writer(instruction.Settings(triggers=3)),
}


def stream(writer: Writer, length: int, rows: range = range(3), seed: int = 0, split: str = "train") -> TextStream:
    return TextStream(writer, "a task", seed, split, rows, length)


def blocks(source: TextStream, count: int, position: Position | None = None) -> Iterator[StreamBatch]:
    position = source.start() if position is None else position
    for _ in range(count):
        batch = source.read(position)
        position = batch.position
        yield batch


def joined(source: TextStream, count: int, name: str = "inputs") -> Tensor:
    return torch.cat([getattr(batch, name) for batch in blocks(source, count)], dim=1)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_text_does_not_depend_on_blocks_or_on_the_rows_beside(writer: Writer) -> None:
    tokens = 2 * WINDOW + 512  # more than a window
    for name in ("inputs", "targets", "distance", "item", "kind", "weights"):
        whole = joined(stream(writer, 512), tokens // 512, name)
        assert torch.equal(joined(stream(writer, 64), tokens // 64, name), whole)
        assert torch.equal(joined(stream(writer, 64, range(1, 2)), tokens // 64, name), whole[1:2])
    first, second = (joined(stream(writer, 512), tokens // 512, name) for name in ("inputs", "targets"))
    assert torch.equal(first[:, 1:], second[:, :-1])


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_row_does_not_repeat_itself(writer: Writer) -> None:
    text = joined(stream(writer, 512, range(1)), 3 * WINDOW // 512)[0]
    stretches = text.unfold(0, 64, 1)
    assert int((stretches == stretches[0]).all(1).sum()) == 1


def test_seeds_splits_and_rows_differ() -> None:
    writer = WRITERS["copies"]
    texts = [
        joined(stream(writer, 64, seed=seed, split=split), 1)[row]
        for seed in (0, 1)
        for split in ("train", "test")
        for row in range(3)
    ]
    assert len({tuple(text.tolist()) for text in texts}) == 12


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_any_position_can_be_entered_again(writer: Writer) -> None:
    batches = list(blocks(stream(writer, 512), 20))  # across two borders of windows
    for number in (0, 3, 7, 8, 15, 16):
        again = next(blocks(stream(writer, 512), 1, batches[number].position))
        assert torch.equal(again.inputs, batches[number + 1].inputs)
        assert torch.equal(again.weights, batches[number + 1].weights)
        assert torch.equal(again.position["read"], batches[number + 1].position["read"])


def test_rows_begin_at_tokens_of_their_own() -> None:
    position = stream(WRITERS["copies"], 64, range(40)).start()
    assert len(set(position["offset"].tolist())) > 30


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_answers_are_scored_whole_behind_the_unscored_and_before_the_end(writer: Writer) -> None:
    count, length, unscored = 300, 16, 1000
    free = stream(writer, length)
    held = TextStream(writer, "a task", 0, "train", range(3), length, unscored, count)
    whole, part = joined(free, count + 5, "item"), joined(held, count, "item")
    assert torch.equal(joined(held, count, "weights") > 0, part >= 0)
    scored = 0
    for row in range(3):
        for item in set(part[row][part[row] >= 0].tolist()):
            places = (whole[row] == item).nonzero().squeeze(1)
            assert int((part[row] == item).sum()) == len(places)
            assert int(places.min()) >= unscored, "as many tokens stand before the one that asks"
            scored += 1
        inside = whole[row, unscored : (count - 5) * length]
        assert set(inside[inside >= 0].tolist()) - set(part[row].tolist()) <= set(whole[row, :unscored].tolist())
    assert scored > 100


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_asked_that_was_said_before_a_rows_first_token(name: str) -> None:
    rows = range(40)
    item, distance = (joined(stream(WRITERS[name], 64, rows), 8, what) for what in ("item", "distance"))
    place = torch.arange(item.shape[1]) + 1  # of the token that is to be said
    known = (item >= 0) & (distance >= 0)
    assert int((place - distance)[known].min()) >= 0
    told = joined(stream(WRITERS[name], 64, rows), 8, "weights") > 0
    early = (distance >= 0) & (place < distance)
    assert int(early.any(1).sum()) > 5, "many rows begin within an episode"
    assert not bool((told & early).any())


def test_both_tasks_evaluate_what_they_promise() -> None:
    train = TrainSettings(block_length=32, evaluation_batch_size=8)
    copies = long_copy.Settings(variant="selective", n=10, k=3, evaluation_symbols=900, unscored_tokens=100)
    source = long_copy.evaluation_source(copies, train, "test")
    assert source.blocks is not None
    assert 900 <= int(joined(source, source.blocks, "weights").sum()) < 1200
    told = instruction.Settings(evaluation_tokens=4000, unscored_tokens=64)
    source = instruction.evaluation_source(told, train, "test")
    assert source.blocks is not None
    assert 8 * (source.blocks * 32 - 64) >= 4000
    assert float(joined(source, source.blocks, "weights").mean()) > 0.05
