"""The task object_collision: its streams, what is scored in them, and that a run on them goes on exactly."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.backbone import BackboneSettings, build
from models.errors import SettingsError
from models.registry import METHODS, load_file
from tasks import object_collision
from tasks.collision_stream import CollisionStream
from tasks.object_collision import Settings, check, check_horizon, label
from tasks.stream import Position, Source, StreamBatch, StreamData
from tasks.stream_module import StreamModule
from tasks.train_settings import TrainSettings

toy = load_file(Path(__file__).with_name("toy_training.py"))

SETTINGS = Settings(grid=4, colours=2, burn_in_steps=300, evaluation_questions=300, unscored_tokens=70)
TRAIN = TrainSettings(batch_size=6, block_length=16, evaluation_batch_size=3)


def blocks(source: Source, count: int, position: Position | None = None) -> list[StreamBatch]:
    found = []
    position = source.start() if position is None else position
    for _ in range(count):
        found.append(source.read(position))
        position = found[-1].position
    return found


def joined(found: list[StreamBatch], name: str) -> np.ndarray:
    return torch.cat([getattr(batch, name) for batch in found], dim=1).numpy()


def training(settings: Settings = SETTINGS, train: TrainSettings = TRAIN, seed: int = 0) -> CollisionStream:
    return object_collision.training_source(settings, train, seed, range(train.batch_size))


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, grid=16, colours=5, burn_in_steps=20_000)])
def test_answers_and_distances_are_what_the_tokens_show(settings: Settings) -> None:
    """Reads the token stream alone, as a model would, and keeps book of what met where."""
    grid, colours = settings.grid, settings.colours
    source = training(settings)
    found = blocks(source, 500)
    inputs, targets, weights = (joined(found, name) for name in ("inputs", "targets", "weights"))
    distance = joined(found, "distance")
    checked = 0
    for row in range(TRAIN.batch_size):
        eighth = np.flatnonzero(inputs[row] >= 2 * grid + colours)[1::2]
        if inputs[row, eighth[0] - 1] < 2 * grid + colours:  # the row began between the two asked colours
            eighth = np.flatnonzero(inputs[row] >= 2 * grid + colours)[0::2]
        assert set(np.diff(eighth)) == {8}
        others = np.setdiff1d(np.arange(inputs.shape[1]), eighth)
        assert not weights[row, others].any()
        assert not targets[row, others].any()
        assert (distance[row, others] == -1).all()
        met: dict[tuple[int, int], tuple[int, int]] = {}
        for place in eighth[eighth >= 7]:
            x0, y0, c0, x1, y1, c1, a0, a1 = inputs[row, place - 7 : place + 1].tolist()
            if (x0, y0) == (x1, y1):
                quadrant = 1 + (x0 >= grid // 2) + 2 * (y0 - grid >= grid // 2)
                met[c0 - 2 * grid, c1 - 2 * grid] = (place, quadrant)
            asked = (a0 - 2 * grid - colours, a1 - 2 * grid - colours)
            if asked in met:
                assert weights[row, place] == 1
                assert targets[row, place] == met[asked][1]
                assert distance[row, place] == place - met[asked][0]
                checked += 1
            elif weights[row, place]:
                assert distance[row, place] > place - eighth[0]  # it lies before what was read
    assert checked > 100


@pytest.mark.parametrize("length", [1, 7, 40, 1500])
def test_the_stream_is_the_same_in_blocks_of_any_length(length: int) -> None:
    train = replace(TRAIN, block_length=length)
    count = 10_000  # more than a stretch, which has 8,192 tokens
    expected, found = blocks(training(), -(-count // 16)), blocks(training(train=train), min(-(-count // length), 3000))
    for name in ("inputs", "targets", "weights", "distance"):
        one, other = joined(expected, name), joined(found, name)
        shared = min(one.shape[1], other.shape[1])
        assert np.array_equal(one[:, :shared], other[:, :shared]), name
    assert not any(bool(batch.reset.any()) for batch in found)


@pytest.mark.parametrize("stop", [1, 511, 512, 513, 700])  # 512 blocks of 16 tokens are one stretch of 1,024 steps
def test_a_position_can_be_saved_and_read_on_from(stop: int) -> None:
    found = blocks(training(), 720)
    buffer = io.BytesIO()
    torch.save(found[stop - 1].position, buffer)
    buffer.seek(0)
    position = torch.load(buffer, weights_only=True)
    again = blocks(training(), 720 - stop, position)
    for name in ("inputs", "targets", "weights", "distance"):
        assert np.array_equal(joined(found[stop:], name), joined(again, name)), name
    for name, tensor in found[-1].position.items():
        assert torch.equal(again[-1].position[name], tensor), name


def test_one_source_serves_any_of_its_positions_in_any_order() -> None:
    source = training()
    found = blocks(source, 520)
    for index in (515, 3, 518, 0):
        position = source.start() if index == 0 else found[index - 1].position
        assert torch.equal(source.read(position).inputs, found[index].inputs)


def test_rows_depend_on_seed_split_and_row_alone() -> None:
    whole = blocks(training(), 5)
    half = blocks(object_collision.training_source(SETTINGS, TRAIN, 0, range(3, 6)), 5)
    assert np.array_equal(joined(whole, "inputs")[3:], joined(half, "inputs"))
    assert not np.array_equal(joined(whole, "inputs"), joined(blocks(training(seed=1), 5), "inputs"))
    first = {split: object_collision.evaluation_source(SETTINGS, TRAIN, split) for split in ("validation", "test")}
    keys = [key for source in (training(), training(seed=1), *first.values()) for key in source.keys]
    assert len(set(keys)) == len(keys), "no two rows show one world"


def test_rows_begin_at_different_tokens_of_a_step() -> None:
    train = replace(TRAIN, batch_size=32)
    batch = blocks(training(train=train), 1)[0]
    assert len({tuple(row) for row in (batch.targets > 0).tolist()}) > 4


def test_evaluation_fills_the_memory_first_and_scores_as_many_questions_as_asked_for() -> None:
    for wanted in (300, 1000):
        settings = replace(SETTINGS, evaluation_questions=wanted)
        source = object_collision.evaluation_source(settings, TRAIN, "test")
        assert source.blocks is not None
        weights = joined(blocks(source, source.blocks), "weights")
        assert not weights[:, : settings.unscored_tokens].any()
        assert weights[:, settings.unscored_tokens : settings.unscored_tokens + 8].sum() == TRAIN.evaluation_batch_size
        assert wanted <= weights.sum() <= 1.05 * wanted + 8 * TRAIN.evaluation_batch_size


def test_one_who_remembers_scores_zero_and_a_constant_answer_three_quarters() -> None:
    settings, train = replace(SETTINGS, evaluation_questions=5000), replace(TRAIN, evaluation_batch_size=64)
    source = object_collision.evaluation_source(settings, train, "validation")
    oracle, constant = (object_collision.scorer(settings, train) for _ in range(2))
    assert source.blocks is not None
    for batch in blocks(source, source.blocks):
        oracle.add(batch, torch.nn.functional.one_hot(batch.targets, 5).float(), torch.empty(0))
        constant.add(batch, torch.tensor([0.0, 1, 0, 0, 0]).expand(*batch.targets.shape, 5), torch.empty(0))
    assert oracle.scores()[0].value == 0
    assert constant.scores()[0].value == pytest.approx(75, abs=4)


def test_the_label_says_what_differs_from_the_published_world() -> None:
    assert label(Settings()) == "object_collision"
    assert label(Settings(grid=4, colours=2)) == "object_collision-4x4-2colours"
    assert label(Settings(speed=1.5)) == "object_collision-speed1.5"
    assert label(Settings(burn_in_steps=5, unscored_tokens=7)) == "object_collision"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"grid": 5}, r"grid: is 5.*even"),
        ({"colours": 0}, r"colours: is 0"),
        ({"colour_change": 0.0}, r"colour_change"),
        ({"ask_recent": 1.1}, r"ask_recent"),
        ({"speed": 0.0}, r"speed"),
        ({"burn_in_steps": -1}, r"burn_in_steps"),
        ({"evaluation_questions": 0}, r"evaluation_questions"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        check(replace(SETTINGS, **values), TRAIN)


def test_scoring_before_memory_is_full_is_refused() -> None:
    check_horizon(SETTINGS, 70)
    with pytest.raises(SettingsError, match=r"unscored_tokens.*70 tokens.*back 71.*at least 71"):
        check_horizon(SETTINGS, 71)


def tiny(method: str) -> tuple[StreamModule, StreamData]:
    train = TrainSettings(
        steps=12,
        batch_size=4,
        block_length=8,
        learning_rate=1e-2,
        validate_every=5,
        log_every=2,
        evaluation_batch_size=3,
    )
    torch.manual_seed(5)
    values = METHODS.load(method).Settings(**toy.METHOD_SETTINGS[method])
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2, dropout=0.1, pre_norm=True)
    encoder, head = object_collision.encoder(SETTINGS, 16), object_collision.head(SETTINGS, 16)
    model = build(method, values, backbone, train.block_length, encoder, head)
    settings = replace(SETTINGS, evaluation_questions=60)
    module = StreamModule(model, train, lambda: object_collision.scorer(settings, train), seed=3)
    return module, StreamData(object_collision, settings, train, seed=3)


@pytest.mark.parametrize("method", ["expire_span", pytest.param("compressive", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_exactly(method: str) -> None:
    undisturbed = toy.fit(*tiny(method))
    stopper = toy.StopAt(7)
    with pytest.raises(toy.Stop):
        toy.fit(*tiny(method), stopper)
    again, data = tiny(method)
    again.load_resume_state(torch.load(io.BytesIO(stopper.saved), weights_only=True))
    assert toy.fit(again, data) == [entry for entry in undisturbed if entry["step"] > 7]


def test_the_command_draws_a_world_and_refuses_what_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    object_collision.main(["--show", "--grid", "4", "--colours", "2"])
    assert capsys.readouterr().out.count("meet last?") == 6
    for wrong, said in ((["--show", "--grid", "5"], "grid"), ([], "--statistics")):
        with pytest.raises(SystemExit) as ended:
            object_collision.main(wrong)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
