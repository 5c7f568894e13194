"""The enwik8 task: which bytes are read and scored, in which order, and what bits per byte means."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import SettingsError
from tasks import enwik8
from tasks.enwik8 import BitsPerByte, Settings, TrainingStream, WholeSplit
from tasks.train_settings import TrainSettings


def test_the_excerpt_is_split_90_5_5_and_its_order_0_entropy_is_the_published_one() -> None:
    parts = [enwik8.part(Settings(), split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3_600_000, 200_000, 200_000]
    counts = torch.bincount(torch.cat(parts).long(), minlength=256).double()
    share = counts[counts > 0] / counts.sum()
    assert float(-(share * share.log2()).sum()) == pytest.approx(5.08, abs=0.01)


@pytest.mark.parametrize(("size", "rows", "length"), [(1000, 4, 16), (1001, 4, 7), (67, 3, 8), (50, 1, 49)])
def test_a_split_is_scored_byte_by_byte_exactly_once(size: int, rows: int, length: int) -> None:
    text = torch.randint(256, (size,), dtype=torch.uint8)
    source = WholeSplit(text, rows, length)
    position = source.start()
    read: list[list[int]] = [[] for _ in range(rows)]
    targets: list[list[int]] = [[] for _ in range(rows)]
    for _ in range(source.blocks):
        batch = source.read(position)
        position = batch.position
        for row in range(rows):
            counts = batch.weights[row] > 0
            read[row] += batch.inputs[row][counts].tolist()
            targets[row] += batch.targets[row][counts].tolist()
    assert list(chain(*targets)) == text[1:].tolist()  # every byte that has a predecessor, in order
    assert list(chain(*read)) == text[:-1].tolist()


def test_bpb_is_summed_nats_over_summed_bytes_and_not_a_mean_of_block_means() -> None:
    torch.manual_seed(0)
    text = torch.randint(256, (103,), dtype=torch.uint8)
    source = WholeSplit(text, 2, 16)
    scorer, position, nats = BitsPerByte({}), source.start(), 0.0
    for _ in range(source.blocks):
        batch = source.read(position)
        position = batch.position
        nll = torch.rand(batch.targets.shape) * 7
        nats += float((nll * (batch.weights > 0)).sum())
        scorer.add(batch, torch.empty(0), nll)
    score = scorer.scores()[0]
    assert score.n == 102
    assert score.value == pytest.approx(nats / math.log(2) / 102, rel=1e-6)


def test_training_rows_read_their_own_stream_start_at_their_own_phase_and_begin_again_reset() -> None:
    text = torch.arange(4 * 101, dtype=torch.int64).to(torch.int16)  # every byte of the text is its own place
    train = TrainSettings(batch_size=4, block_length=8)
    source = TrainingStream(text, train, seed=1, rows=range(4))
    position = source.start()
    phases, laps = set(), torch.zeros(4)
    previous = None
    for block in range(60):
        batch = source.read(position)
        position = batch.position
        assert torch.equal(batch.targets[:, :-1], batch.inputs[:, 1:])
        assert torch.equal(batch.inputs // 101, torch.arange(4)[:, None].expand(4, 8))
        if block == 0:
            phases = set((batch.inputs[:, 0] % 101).tolist())
        elif previous is not None:
            going_on = ~batch.reset
            assert torch.equal(batch.inputs[going_on, 0], previous[going_on, -1])
            assert bool((batch.inputs[batch.reset, 0] % 101 < 8).all())
        laps += batch.reset
        previous = batch.targets
    assert len(phases) > 1
    assert bool((laps >= 4).all())


def test_training_data_depends_on_seed_and_row_alone_and_can_be_re_entered() -> None:
    text = enwik8.part(Settings(), "train")[:5000]
    train = TrainSettings(batch_size=4, block_length=8)
    whole = TrainingStream(text, train, 7, range(4))
    half = TrainingStream(text, train, 7, range(2, 4))
    batch, part = whole.read(whole.start()), half.read(half.start())
    assert torch.equal(batch.inputs[2:], part.inputs)
    again = whole.read(batch.position)
    assert torch.equal(again.inputs, whole.read(batch.position).inputs)
    other = TrainingStream(text, train, 8, range(4))
    assert not torch.equal(other.read(other.start()).inputs, batch.inputs)


def test_any_file_gives_the_same_task_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "text8"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 2000, dtype=np.uint8).tobytes())
    settings = Settings(path=str(path))
    assert enwik8.label(settings) == "bytes-text8"
    assert enwik8.label(Settings()) == "enwik8-4M"
    assert [len(enwik8.part(settings, split)) for split in enwik8.SPLITS] == [1800, 100, 100]


def test_missing_or_short_data_is_refused_with_the_key_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANBENCH_DATA", str(tmp_path))
    with pytest.raises(SettingsError, match=r"task\.enwik8\.data.*make data"):
        enwik8.check(Settings(data="full"), TrainSettings())
    with pytest.raises(SettingsError, match=r"task\.enwik8\.path.*no file"):
        enwik8.check(Settings(path=str(tmp_path / "absent")), TrainSettings())
    short = tmp_path / "short"
    short.write_bytes(bytes(3000))
    with pytest.raises(SettingsError, match="longer text"):
        enwik8.check(Settings(path=str(short)), TrainSettings(batch_size=32, block_length=64))
