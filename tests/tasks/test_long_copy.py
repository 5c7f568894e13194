"""The extremely long copy: what the generator writes, read again by a naive reader, and how it is scored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.errors import SettingsError
from tasks import long_copy
from tasks.copy_episodes import COPY, MARK, SYMBOLS, CopyWriter
from tasks.long_copy import Settings, check, label, scorer
from tasks.stream import StreamBatch
from tasks.text_view import written
from tasks.train_settings import TrainSettings


def episodes(writer: CopyWriter, tokens: int = 20_000) -> Iterator[tuple[list[int], list[int], list[int], list[int]]]:
    """For each episode: what stands before COPY, what behind, the distances there, and the items' numbers."""
    for piece in written(writer, 5, tokens):
        token, item, distance = piece.token.tolist(), piece.item.tolist(), piece.distance.tolist()
        begin = 0
        while begin < len(token):
            copy = token.index(COPY, begin)
            end = copy + 1
            while end < len(token) and item[end] >= 0:
                end += 1
            assert item[begin : copy + 1] == [-1] * (copy + 1 - begin)
            yield token[begin:copy], token[copy + 1 : end], distance[copy + 1 : end], item[copy + 1 : end]
            begin = end


@pytest.mark.parametrize(("n_min", "n_max"), [(7, 7), (3, 9)])
def test_full_copies_every_symbol_in_order(n_min: int, n_max: int) -> None:
    lengths = set()
    for number, (said, copied, distance, item) in enumerate(episodes(CopyWriter(n_min, n_max, None))):
        assert said == copied
        assert all(symbol < SYMBOLS for symbol in said)
        assert distance == [len(said) + 1] * len(said)
        assert set(item) == {number}
        lengths.add(len(said))
    assert lengths == set(range(n_min, n_max + 1))


@pytest.mark.parametrize(("n_min", "n_max", "k"), [(16, 16, 2), (4, 9, 3), (5, 5, 5)])
def test_selective_copies_the_symbols_behind_marks(n_min: int, n_max: int, k: int) -> None:
    places: list[int] = []
    for number, (said, copied, distance, item) in enumerate(episodes(CopyWriter(n_min, n_max, k), 60_000)):
        marked = [place + 1 for place, symbol in enumerate(said) if symbol == MARK]
        assert copied == [said[place] for place in marked]
        assert len(copied) == k
        assert n_min <= len(said) - k <= n_max
        assert distance == [len(said) + 1 + order - place for order, place in enumerate(marked)]
        assert set(item) == {number}
        places += [place - order - 1 for order, place in enumerate(marked)] if n_min == n_max else []
    if n_min == n_max:  # every symbol is marked as often as any other
        counts = torch.bincount(torch.tensor(places), minlength=n_max).double()
        assert float((counts / counts.mean() - 1).abs().max()) < 0.25


def test_symbols_are_uniform() -> None:
    counts = torch.zeros(SYMBOLS)
    for said, _, _, _ in episodes(CopyWriter(8, 8, None), 60_000):
        counts += torch.bincount(torch.tensor(said), minlength=SYMBOLS)
    assert float((counts / counts.mean() - 1).abs().max()) < 0.15


def batch(targets: list[list[int]], weights: list[list[int]], item: list[list[int]], distance: int) -> StreamBatch:
    shape = torch.tensor(targets).shape
    return StreamBatch(
        inputs=torch.zeros(shape, dtype=torch.long),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights).float(),
        reset=torch.zeros(shape[0], dtype=torch.bool),
        position={},
        distance=torch.full(shape, distance),
        item=torch.tensor(item),
        kind=torch.zeros(shape, dtype=torch.long),
    )


def said(*symbols: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(symbols), 28).float()


def test_symbols_and_whole_episodes_are_counted_also_across_blocks() -> None:
    count = scorer(Settings(), TrainSettings())
    nll = torch.zeros(2, 3)
    count.add(
        batch([[1, 2, 3], [4, 5, 6]], [[0, 1, 1], [0, 0, 1]], [[-1, 7, 7], [-1, -1, 7]], 5),
        said([1, 2, 3], [0, 0, 6]),
        nll,
    )
    count.add(
        batch([[8, 9, 1], [2, 3, 4]], [[1, 0, 1], [1, 1, 0]], [[7, -1, 8], [7, 7, -1]], 9),
        said([0, 9, 1], [2, 3, 0]),
        nll,
    )
    found = {(score.metric, score.context.get("distance")): (score.value, score.n) for score in count.scores()}
    assert found["accuracy", None] == (100 * 6 / 7, 7)
    assert found["episodes", None] == (100 * 2 / 3, 3), "row 0's first has an error; equal numbers in two rows are two"
    assert found["accuracy_chance", None] == (100 / 26, 7)
    assert found["accuracy_by_distance", "4-7"] == (100.0, 3)
    assert found["accuracy_by_distance", "8-15"] == (75.0, 4)
    assert found["accuracy_chance_by_distance", "8-15"] == (100 / 26, 4)


def test_labels_say_what_is_copied() -> None:
    assert label(Settings(n=64)) == "long_copy-full-64"
    assert label(Settings(n=64, n_min=8)) == "long_copy-full-8to64"
    assert label(Settings(variant="selective", n=16, k=3)) == "long_copy-selective-16-3"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (Settings(variant="some"), "variant"),  # type: ignore[arg-type]
        (Settings(n=0), "n"),
        (Settings(n=4, n_min=5), "n_min"),
        (Settings(variant="selective", n=4, k=5), "k"),
        (Settings(variant="selective", n=9, n_min=3, k=4), "k"),
        (Settings(unscored_tokens=-1), "unscored_tokens"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Settings, key: str) -> None:
    with pytest.raises(SettingsError, match=rf"task\.long_copy\.{key}"):
        check(settings, TrainSettings())


def test_the_command_shows_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    long_copy.main(["--show", "--variant", "selective", "--n", "8", "--k", "2"])
    told = capsys.readouterr().out
    assert told.count("=[") > 5
    with pytest.raises(SystemExit, match="2"):
        long_copy.main(["--show", "--n", "0"])
    assert "task.long_copy.n: is 0" in capsys.readouterr().err
