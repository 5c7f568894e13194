"""`python -m bench eval`: a trained model as it is gives its cell's test row, and each replacement of spans its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.__main__ import main
from bench.cell import build_trainer, run_cell
from bench.devices import device_name
from bench.evaluation import SpanRecord, evaluate
from bench.evaluation_choices import EDITS
from bench.executors.device_lock import DeviceLock
from bench.spec import CellSpec, TrainerSettings
from bench.store.cell_folder import CellFolder
from bench.store.result import Result
from models.errors import SettingsError
from tasks import enwik8

LONGEST = 48
EXPIRE = {"max_span": LONGEST, "ramp": 4, "coefficient": 1e-3, "initial_fraction": 0.4}


@dataclass(frozen=True)
class Cell:
    checkpoint: Path
    result: Result


def train_cell(folder: Path, method: str, settings: dict[str, Any]) -> Cell:
    """A cell of two layers on 8,000 bytes, trained for a moment."""
    text = folder / "text"
    text.write_bytes(enwik8.part(enwik8.Settings(), "train")[:8_000].numpy().tobytes())
    spec = CellSpec(
        task="enwik8",
        task_label="bytes-text",
        task_version=1,
        task_settings={"path": str(text)},
        method=method,
        variant="",
        method_settings=settings,
        impl="reference",
        backbone={"layers": 2, "width": 16, "feedforward": 24, "heads": 2},
        train={"steps": 40, "batch_size": 4, "block_length": 8, "learning_rate": 2e-2, "validate_every": 40},
        trainer=asdict(TrainerSettings()),
        precision="32-true",
        seed=3,
    )
    place = CellFolder(folder / spec.id)
    place.create(spec.to_json())
    result = run_cell(spec, place, None, fresh=True)
    assert result.status == "ok", result.reason
    return Cell(place.checkpoints / "best.ckpt", result)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return train_cell(tmp_path_factory.mktemp("expire"), "expire_span", EXPIRE)


@pytest.fixture(scope="module")
def spanless(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return train_cell(tmp_path_factory.mktemp("xl"), "transformer_xl", {"memory_length": 8})


@dataclass
class Passage:
    """One call of a SpanRecord: what was predicted, and what was used instead."""

    record: SpanRecord
    layer: int
    predicted: Tensor
    used: Tensor


@pytest.fixture
def passages(monkeypatch: pytest.MonkeyPatch) -> list[Passage]:
    """Every call of a SpanRecord of this test."""
    seen: list[Passage] = []
    call = SpanRecord.__call__

    def spy(self: SpanRecord, layer: int, spans: Tensor) -> Tensor:
        used = call(self, layer, spans)
        seen.append(Passage(self, layer, spans.detach().cpu().clone(), used.detach().cpu().clone()))
        return used

    monkeypatch.setattr(SpanRecord, "__call__", spy)
    return seen


def of_layer(passages: list[Passage], layer: int) -> list[Passage]:
    return [passage for passage in passages if passage.layer == layer]


def by_pass(passages: list[Passage]) -> list[list[Passage]]:
    """The calls of each SpanRecord, in order."""
    records = list(dict.fromkeys(id(passage.record) for passage in passages))
    return [[passage for passage in passages if id(passage.record) == record] for record in records]


def scored_spans(passages: list[Passage]) -> torch.Tensor:
    """The predicted spans of one layer, without those of tokens that fill up its 4 rows of 100 to whole blocks."""
    spans = torch.cat([passage.predicted for passage in passages], dim=1)[:, :100]
    return spans.flatten()[:399]


def altered(cell: Cell, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a checkpoint with something in it changed."""
    content = torch.load(cell.checkpoint, weights_only=True)
    change(content)
    torch.save(content, folder / "altered.ckpt")
    return folder / "altered.ckpt"


def with_spec(cell: Cell, folder: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with another spec."""

    def change(content: dict[str, Any]) -> None:
        content["spec"] = json.dumps({**json.loads(content["spec"]), **changes})

    return altered(cell, folder, change)


# As it is


@pytest.mark.parametrize("name", ["cell", "spanless"])
def test_a_model_as_it_is_gives_exactly_its_cells_test_rows(name: str, request: pytest.FixtureRequest) -> None:
    trained: Cell = request.getfixturevalue(name)
    rows = {row.metric: row for row in trained.result.rows if row.split == "test"}
    result = evaluate(trained.checkpoint)
    main_score = result.scores[0]
    assert (main_score.metric, main_score.value, main_score.n) == ("bpb", rows["bpb"].value, rows["bpb"].n)
    assert result.statistics == {name: rows[name].value for name in result.statistics}
    assert {"slots_alive", "max_state_bytes"} <= set(result.statistics)
    assert result.split == "test"
    assert result.spec.id == trained.result.cell


def test_the_validation_split_gives_the_best_validation_point(cell: Cell) -> None:
    row = next(row for row in cell.result.rows if row.split == "validation")
    result = evaluate(cell.checkpoint, "validation")
    assert result.scores[0].value == row.value
    assert result.scores[0].value != evaluate(cell.checkpoint).scores[0].value
    assert result.split == "validation"


def test_figures_of_spans_are_numpys_over_the_scored_tokens_of_the_split(cell: Cell, passages: list[Passage]) -> None:
    result = evaluate(cell.checkpoint)
    (predicted,) = by_pass(passages)
    assert [figures.layer for figures in result.spans] == [0, 1]
    for figures in result.spans:
        spans = scored_spans(of_layer(predicted, figures.layer)).numpy()
        assert spans.shape == (399,)  # 400 test bytes, of which all but the first have a predecessor
        assert figures.mean == pytest.approx(spans.mean(), rel=1e-6)
        p10, p50, p90 = (float(np.percentile(spans, p)) for p in (10, 50, 90))
        assert (figures.p10, figures.p50, figures.p90) == pytest.approx((p10, p50, p90), rel=1e-6)
        assert figures.p10 + 0.5 < figures.p50 < figures.p90 - 0.5  # else this shows nothing


def test_figures_are_of_the_unreplaced_spans_under_every_replacement(cell: Cell) -> None:
    spans = evaluate(cell.checkpoint).spans
    for edit in EDITS:
        assert evaluate(cell.checkpoint, edit=edit, longest=3.0).spans == spans


# With spans replaced


def test_mean_uses_each_layers_own_mean(cell: Cell, passages: list[Passage]) -> None:
    result = evaluate(cell.checkpoint, edit="mean")
    predicted, replaced = by_pass(passages)
    means = [scored_spans(of_layer(predicted, layer)).mean() for layer in (0, 1)]
    assert abs(float(means[0] - means[1])) > 0.1
    for layer, mean in enumerate(means):
        for passage in of_layer(replaced, layer):
            torch.testing.assert_close(passage.used, torch.full_like(passage.used, float(mean)))
    assert result.scores[0].value != evaluate(cell.checkpoint).scores[0].value
    assert result.scores[0].n == evaluate(cell.checkpoint).scores[0].n


def test_shuffled_permutes_the_spans_of_a_row_within_a_block(cell: Cell, passages: list[Passage]) -> None:
    result = evaluate(cell.checkpoint, edit="shuffled")
    replaced = by_pass(passages)[1]
    assert len(replaced) == 2 * 13  # layers; blocks of 8 tokens in rows of 100
    for passage in replaced:
        assert torch.equal(passage.used.sort(1).values, passage.predicted.sort(1).values)
    moved = sum(not torch.equal(passage.used, passage.predicted) for passage in replaced)
    assert moved == len(replaced)
    assert result.scores[0].value != evaluate(cell.checkpoint).scores[0].value


def test_the_order_differs_per_block_layer_row_and_seed_and_is_repeatable() -> None:
    def orders(seed: int) -> Tensor:
        record = SpanRecord("shuffled", [], None, seed)
        ascending = torch.arange(32.0).expand(2, -1)
        return torch.stack([record(layer, ascending) for layer in (0, 1) for _ in range(3)])  # [calls, rows, T]

    rows = [tuple(row.tolist()) for seed in (3, 4) for call in orders(seed) for row in call]
    assert len(set(rows)) == len(rows)
    assert torch.equal(orders(3), orders(3))


@pytest.mark.parametrize("edit", EDITS)
def test_longer_spans_are_cut_and_shorter_ones_stay(cell: Cell, passages: list[Passage], edit: str) -> None:
    spans = evaluate(cell.checkpoint).spans
    longest = 0.9 * min(spans[0].p50, spans[0].mean)
    passages.clear()
    result = evaluate(cell.checkpoint, edit=edit, longest=longest)
    predicted, replaced = by_pass(passages)
    assert max(float(p.used.max()) for p in predicted) > longest + 0.5
    assert max(float(p.used.max()) for p in replaced) == pytest.approx(longest)
    if edit == "learned":
        assert all(torch.equal(p.used, p.predicted.clamp(max=longest)) for p in replaced)
    assert result.scores[0].value != evaluate(cell.checkpoint, edit=edit).scores[0].value


def test_a_cut_beyond_every_span_changes_nothing(cell: Cell) -> None:
    as_it_is, cut = evaluate(cell.checkpoint), evaluate(cell.checkpoint, longest=LONGEST)
    assert cut.scores[0].value == pytest.approx(as_it_is.scores[0].value, abs=1e-6)


def test_the_untrained_model_is_the_initial_one_with_equal_spans_everywhere(cell: Cell) -> None:
    untrained = evaluate(cell.checkpoint, untrained=True)
    assert untrained.scores[0].value > evaluate(cell.checkpoint).scores[0].value + 0.3
    assert len(untrained.spans) == 2
    for figures in untrained.spans:
        for value in (figures.mean, figures.p10, figures.p50, figures.p90):
            assert value == pytest.approx(EXPIRE["initial_fraction"] * LONGEST, rel=1e-5)


# Where it runs


def test_a_model_trained_elsewhere_is_evaluated_on_what_this_machine_has(cell: Cell, tmp_path: Path) -> None:
    trainer = {"accelerator": "gpu", "devices": 8, "num_nodes": 4, "strategy": "ddp", "enable_progress_bar": True}
    checkpoint = with_spec(cell, tmp_path, trainer=trainer, precision="bf16-mixed")
    result = evaluate(checkpoint)
    assert result.scores[0].value == evaluate(cell.checkpoint).scores[0].value
    assert result.spec.trainer == trainer
    assert result.spec.precision == "bf16-mixed"


def test_a_model_trained_in_float64_is_evaluated_in_float64(
    cell: Cell, tmp_path: Path, passages: list[Passage], monkeypatch: pytest.MonkeyPatch
) -> None:
    precisions: list[str] = []

    def spy(spec: CellSpec, *rest: Any) -> Any:
        precisions.append(spec.precision)
        return build_trainer(spec, *rest)

    monkeypatch.setattr("bench.evaluation.build_trainer", spy)
    result = evaluate(with_spec(cell, tmp_path, precision="64-true"))
    assert {passage.predicted.dtype for passage in passages} == {torch.float64}
    assert set(precisions) == {"64-true"}
    assert result.scores[0].value == pytest.approx(evaluate(cell.checkpoint).scores[0].value, abs=1e-4)


# The command


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def test_the_last_line_is_json_of_all_that_was_found(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(cell.checkpoint), "--split", "validation", "--spans", "shuffled", "--max-span", "9.5"]
    assert main(["eval", *words]) == 0
    said = last_line(capsys)
    result = evaluate(cell.checkpoint, "validation", "shuffled", 9.5)
    score = result.scores[0]
    assert said == {
        "cell": cell.result.cell,
        "split": "validation",
        "spans": "shuffled",
        "max_span": 9.5,
        "untrained": False,
        "metric": "bpb",
        "value": score.value,
        "unit": "bits/byte",
        "n": score.n,
        "scores": [asdict(score) for score in result.scores],
        "statistics": result.statistics,
        "layers": [asdict(layer) for layer in result.spans],
    }


def test_quiet_leaves_the_json_alone_and_defaults_are_the_cells_test(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--quiet", str(cell.checkpoint)]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    said = json.loads(out)
    assert (said["split"], said["spans"], said["max_span"], said["untrained"]) == ("test", "learned", None, False)
    assert said["value"] == next(row.value for row in cell.result.rows if row.metric == "bpb")


def test_the_text_names_cell_scores_and_spans(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(cell.checkpoint), "--untrained"]) == 0
    out = capsys.readouterr().out
    said = json.loads(out.splitlines()[-1])
    assert said["untrained"] is True
    assert f"{cell.result.cell}, test split, spans learned, untrained" in out
    assert f"{said['value']:.4f} bits/byte over {said['n']:,}" in out
    assert "spans of layer 1: mean 19.2, 10 % 19.2, 50 % 19.2, 90 % 19.2 tokens" in out


def test_a_method_without_spans_has_no_layers_to_report(spanless: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(spanless.checkpoint)]) == 0
    assert last_line(capsys)["layers"] == []


def test_help_needs_no_torch(checkout: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from bench.__main__ import main; main(['eval', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "{learned,mean,shuffled}" in done.stdout


# What cannot be evaluated


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf"])
def test_a_cut_that_is_no_positive_number_is_refused(
    cell: Cell, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(cell.checkpoint), f"--max-span={value}"]) == 2
    error = capsys.readouterr().err
    assert "--max-span" in error
    assert "positive" in error


@pytest.mark.parametrize(("words", "flag"), [(["--spans", "mean"], "--spans"), (["--max-span", "9"], "--max-span")])
def test_a_method_without_spans_refuses_the_flag_that_was_given(
    spanless: Cell, words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(spanless.checkpoint), *words]) == 2
    error = capsys.readouterr().err
    assert f"{flag}: transformer_xl predicts no spans" in error


def test_an_unknown_edit_or_split_is_refused(cell: Cell) -> None:
    with pytest.raises(SettingsError, match=r"--spans.*'median'.*learned, mean, shuffled"):
        evaluate(cell.checkpoint, edit="median")
    with pytest.raises(SettingsError, match=r"--split.*'train'.*validation, test"):
        evaluate(cell.checkpoint, "train")
    for words in (["--spans", "median"], ["--split", "train"]):
        with pytest.raises(SystemExit, match="2"):
            main(["eval", str(cell.checkpoint), *words])


def fewer_weights(content: dict[str, Any]) -> None:
    del content["model"]["shared.p"]


def other_sizes(content: dict[str, Any]) -> None:
    content["model"]["shared.p"] = torch.zeros(3, 3)


def weights_of_another_kind(content: dict[str, Any]) -> None:
    content["model"] = [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("spec"), "spec"),
        (lambda content: content.update(spec=3), "spec"),
        (lambda content: content.update(spec="{"), "is not JSON"),
        (lambda content: content.update(spec="{}"), "is missing"),
        (lambda content: content.pop("model"), "is no checkpoint"),
        (fewer_weights, "shared.p"),
        (other_sizes, "shared.p"),
        (weights_of_another_kind, "do not fit"),
    ],
)
def test_a_checkpoint_that_does_not_hold_a_model_of_today_is_refused_by_name(
    cell: Cell,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = altered(cell, tmp_path, change)
    assert main(["eval", str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert str(checkpoint) in error
    assert message in error


def test_a_file_that_is_missing_or_damaged_is_refused_by_name(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.ckpt"
    shutil.copy(cell.checkpoint, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-200])
    for path, wrong in (
        (damaged, "is damaged"),
        (tmp_path / "none.ckpt", "there is no file"),
        (tmp_path, "is a folder"),
        (Path("/proc/self/mem"), "cannot be read: Input/output error"),
    ):
        assert main(["eval", str(path)]) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert wrong in error
        assert error.count("\n") == 1


def test_weights_that_are_not_finite_are_exit_code_1_and_one_message(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_it(content: dict[str, Any]) -> None:
        content["model"]["head.bias"] = torch.full_like(content["model"]["head.bias"], float("nan"))

    checkpoint = altered(cell, tmp_path, break_it)
    assert main(["eval", str(checkpoint)]) == 1
    error = capsys.readouterr().err
    assert str(checkpoint) in error
    assert "bpb on the test split is not finite" in error
    assert error.count("\n") == 1


def test_a_text_that_is_gone_is_refused_by_key(cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = with_spec(cell, tmp_path, task_settings={"path": str(tmp_path / "gone")})
    assert main(["eval", str(checkpoint)]) == 2
    assert "task.enwik8.path" in capsys.readouterr().err


def test_it_waits_while_the_clock_measures_and_shares_the_device_then(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_alone() -> DeviceLock:
        def taken() -> None:
            raise BlockingIOError

        lock = DeviceLock(device_name("auto"))
        lock.have_alone(taken)
        return lock

    clock = have_alone()
    waited: list[str] = []

    def waiting() -> None:
        waited.append("once")
        clock.release()

    def run(*_: Any) -> None:
        with pytest.raises(BlockingIOError):
            have_alone()
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.evaluation._run", run)
    with pytest.raises(KeyboardInterrupt):
        evaluate(cell.checkpoint, waiting=waiting)
    assert waited == ["once"]
    have_alone().release()
