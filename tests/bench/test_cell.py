"""What a cell makes of its checkpoints: the best weights are tested, and a killed cell goes on with what it knew."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from bench import presets
from bench.cell import build_parts, flops_per_token, run_cell
from bench.checkpoints import load
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim, GivenUp
from bench.store.result import Result, Row
from bench.store.statuses import Status
from bench.study import plan
from models.registry import load_file
from tasks import enwik8
from tasks.registry import TASKS

toy = load_file(Path(__file__).parents[1] / "tasks" / "toy_training.py")


class Killed(BaseException):
    """What ends a process from outside."""


@dataclass
class KillAt:
    """A claim that kills the cell after a training step, before that step is validated."""

    step: int

    def progress(self, phase: str, step: int = 0, steps: int = 0) -> None:
        if (phase, step) == ("training", self.step):
            raise Killed


def make_cell(folder: Path, **train: Any) -> tuple[CellSpec, CellFolder]:
    """A cell whose learning rate rises until it ruins what was learned."""
    text = folder / "text"
    text.write_bytes(enwik8.part(enwik8.Settings(), "train")[:4000].numpy().tobytes())
    budget = {"steps": 8, "batch_size": 4, "block_length": 8, "learning_rate": 0.8, "warmup_steps": 8}
    spec = CellSpec(
        task="enwik8",
        task_label="bytes-text",
        task_version=1,
        task_settings={"path": str(text)},
        method="transformer_xl",
        variant="",
        method_settings={"memory_length": 8},
        impl="reference",
        backbone={"layers": 1, "width": 16, "feedforward": 16, "heads": 2},
        train={**budget, "validate_every": 1, "checkpoint_every": 1, **train},
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
        precision="64-true",
        seed=0,
    )
    place = CellFolder(folder / "cells" / spec.id)
    place.create(spec.to_json())
    return spec, place


def run(spec: CellSpec, place: CellFolder, fresh: bool = False) -> Result:
    result = run_cell(spec, place, None, fresh)
    assert result.status == "ok", result.traceback
    return result


def kill(spec: CellSpec, place: CellFolder, step: int) -> None:
    with pytest.raises(Killed):
        run_cell(spec, place, cast(Claim, KillAt(step)), fresh=False)


def row(result: Result, split: str) -> Row:
    return next(row for row in result.rows if (row.metric, row.split) == ("bpb", split))


def curve(place: CellFolder) -> list[float]:
    """The validation points in order."""
    found = [r for r in place.records() if (r["split"], r["metric"]) == ("validation", "bpb")]
    assert [r["step"] for r in found] == list(range(1, len(found) + 1))
    return [r["value"] for r in found]


def bits_per_byte(spec: CellSpec, weights: dict[str, torch.Tensor], split: str) -> tuple[float, int]:
    """A split's score with some weights, computed by hand, and how many bytes it is made of."""
    parts = build_parts(spec)
    parts.model.load_state_dict(weights)
    text = enwik8.part(parts.task_settings, split)
    return toy.bits_per_byte(parts.model, text, parts.train), len(text) - 1


def test_the_best_weights_are_tested_on_the_test_split(tmp_path: Path) -> None:
    spec, place = make_cell(tmp_path)
    result = run(spec, place)
    tested, validated = row(result, "test"), row(result, "validation")
    assert 1 < validated.context["step"] < 8, "the best point is to be neither the first nor the last"

    best, last = (load(place.checkpoints / name)["model"] for name in ("best.ckpt", "last.ckpt"))
    value, count = bits_per_byte(spec, best, "test")
    assert tested.value == pytest.approx(value, abs=1e-9)
    assert tested.n == count
    assert validated.value == pytest.approx(bits_per_byte(spec, best, "validation")[0], abs=1e-9)
    for weights, split in ((last, "test"), (best, "validation")):
        assert abs(bits_per_byte(spec, weights, split)[0] - value) > 0.01


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_the_best_point_is_the_lowest_or_the_highest_as_the_task_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, higher_is_better: bool
) -> None:
    card = {**TASKS.card("enwik8"), "higher_is_better": higher_is_better}
    monkeypatch.setattr(TASKS, "card", lambda name: card)
    spec, place = make_cell(tmp_path)
    validated = row(run(spec, place), "validation")
    values = curve(place)
    wanted = max(values) if higher_is_better else min(values)
    assert (validated.value, validated.context["step"]) == (wanted, values.index(wanted) + 1)
    saved = load(place.checkpoints / "best.ckpt")
    assert (saved["best_value"], saved["best_step"]) == (wanted, values.index(wanted) + 1)
    assert bits_per_byte(spec, saved["model"], "validation")[0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.slow
def test_a_killed_cell_remembers_its_best_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "whole").mkdir()
    whole_spec, whole = make_cell(tmp_path / "whole")
    undisturbed = run(whole_spec, whole)
    best = int(row(undisturbed, "validation").context["step"])
    assert best < 6, "the best point is to lie before the kill"

    spec, place = make_cell(tmp_path)
    kill(spec, place, 7)
    assert "going on" not in capsys.readouterr().out
    resumed = run(spec, place)
    assert "going on from step 6" in capsys.readouterr().out
    assert row(resumed, "validation").context["step"] == best
    assert resumed.rows == undisturbed.rows
    assert curve(place) == curve(whole)


@pytest.mark.parametrize("damage", ["cut short", "other content", "empty"])
def test_a_cell_whose_last_checkpoint_is_damaged_starts_again_keeps_it_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    spec, place = make_cell(tmp_path)
    undisturbed = run(spec, place)
    points = curve(place)
    last = place.checkpoints / "last.ckpt"
    content = last.read_bytes()
    broken = {"cut short": content[: len(content) // 2], "other content": b"not a checkpoint", "empty": b""}[damage]
    last.write_bytes(broken)
    capsys.readouterr()
    again = run(spec, place)
    said = capsys.readouterr().out
    assert "starting again from step 0" in said
    assert "checkpoints/last.ckpt is damaged" in said
    assert "going on" not in said
    assert again.rows == undisturbed.rows
    assert curve(place) == points
    assert (place.checkpoints / "last.ckpt.damaged-1").read_bytes() == broken


def no_memory(*_: object, **__: object) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("trouble", ["a folder in its place", "a failing disk", "too little memory"])
def test_a_checkpoint_that_cannot_be_read_now_is_left_alone_and_gone_on_from_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trouble: str, name: str
) -> None:
    spec, place = make_cell(tmp_path)
    kill(spec, place, 5)
    checkpoint, kept = place.checkpoints / name, tmp_path / "kept"
    content = checkpoint.read_bytes()
    points = curve(place)
    with monkeypatch.context() as meanwhile:
        if trouble == "too little memory":
            meanwhile.setattr(torch, "load", no_memory)
        elif trouble == "a folder in its place":
            checkpoint.rename(kept)
            checkpoint.mkdir()
        else:
            checkpoint.rename(kept)
            checkpoint.symlink_to("/proc/self/mem")  # opens, and fails with EIO when it is read
        with pytest.raises(GivenUp, match=r"\.ckpt cannot be read: "):
            run_cell(spec, place, None, fresh=False)
    if trouble == "a folder in its place":
        checkpoint.rmdir()
    if kept.exists():
        kept.replace(checkpoint)
    assert checkpoint.read_bytes() == content
    assert curve(place) == points
    capsys.readouterr()
    run(spec, place)
    assert "going on from step 4" in capsys.readouterr().out


def test_a_disk_that_fails_once_does_not_make_a_checkpoint_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, place = make_cell(tmp_path)
    kill(spec, place, 3)
    load_in_earnest, calls = torch.load, 0

    def fails_once(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return load_in_earnest(*arguments, **options)

    monkeypatch.setattr(torch, "load", fails_once)
    assert load(place.checkpoints / "last.ckpt")["step"] == 2


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, place = make_cell(tmp_path)
    kill(spec, place, 5)
    before = (place.checkpoints / "last.ckpt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bench.checkpoints.write_bytes", full)
    with pytest.raises(GivenUp, match=r"\.ckpt cannot be written: No space left on device"):
        run_cell(spec, place, None, fresh=False)
    assert (place.checkpoints / "last.ckpt").read_bytes() == before


def test_a_cell_whose_best_weights_are_gone_starts_again(tmp_path: Path) -> None:
    spec, place = make_cell(tmp_path)
    undisturbed = run(spec, place)
    best = int(row(undisturbed, "validation").context["step"])
    assert best < 8, "weights that training will not come by again are to be missing"
    (place.checkpoints / "best.ckpt").unlink()
    assert run(spec, place).rows == undisturbed.rows
    assert load(place.checkpoints / "best.ckpt")["step"] == best


def test_a_fresh_start_leaves_the_last_checkpoint_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, place = make_cell(tmp_path, steps=3, warmup_steps=0)
    kill(spec, place, 3)
    saved = load(place.checkpoints / "last.ckpt")
    assert saved["step"] == 2
    run(spec, place, fresh=True)
    assert "going on" not in capsys.readouterr().out
    assert len(curve(place)) == 3


UNITS = {
    "bpb": "bits/byte",
    "slots_alive": "slots",
    "max_slots_alive": "slots",
    "slots_allocated": "slots",
    "max_slots_allocated": "slots",
    "state_bytes": "bytes",
    "max_state_bytes": "bytes",
    "cache_bytes": "bytes",
    "max_cache_bytes": "bytes",
    "mean_span": "tokens",
    "flops_per_token": "FLOP",
    "parameters": "parameters",
    "train_tokens": "tokens",
}


def test_every_row_has_its_unit(tmp_path: Path) -> None:
    spec, _ = make_cell(tmp_path, steps=2, warmup_steps=0)
    spec = replace(spec, method="expire_span", method_settings={"max_span": 8, "ramp": 2})
    place = CellFolder(tmp_path / "cells" / spec.id)
    place.create(spec.to_json())
    found = {row.metric: row.unit for row in run(spec, place).rows}
    assert found == UNITS


@pytest.mark.parametrize(("method", "settings"), [("transformer_xl", {"memory_length": 8}), ("lstm", {"hidden": 5})])
def test_the_operations_of_a_cell_are_those_of_its_layers(
    tmp_path: Path, method: str, settings: dict[str, Any]
) -> None:
    spec, place = make_cell(tmp_path, steps=1, warmup_steps=0)
    spec = replace(spec, method=method, method_settings=settings, backbone={**spec.backbone, "layers": 2})
    place = CellFolder(tmp_path / "cells" / spec.id)
    place.create(spec.to_json())
    (row,) = [row for row in run(spec, place).rows if row.metric == "flops_per_token"]
    backbone, length = spec.backbone, spec.train["block_length"]
    width, layers, read = backbone["width"], backbone["layers"], 8 + length
    # Projections of block and memory, queries' scores and sums over all of it, and scores of the 8 positions.
    mixing = 8 * width**2 + 4 * width**2 * 8 / length + 4 * width * read + 2 * width * 8
    if method == "lstm":
        mixing = 2 * (4 * 5 * (width + 5) + 5 * width)
    assert row.value == layers * (mixing + 4 * width * backbone["feedforward"])


def test_what_is_read_twice_costs_twice() -> None:
    def cost(method: str) -> float | None:
        preset = read(presets.path("quick"), "quick.yaml")
        (spec,) = plan(preset, name="made", tasks=["document_labels"], methods=[method]).cells
        return flops_per_token(spec, build_parts(spec), 8)

    once = cost("memory_transformer")
    assert once is not None
    assert cost("memory_transformer+reading=two_pass") == 2 * once


def test_all_that_a_cell_computes_has_one_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    spec, _ = make_cell(tmp_path)
    build_parts(spec)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_loss_that_is_not_finite_is_diverged(tmp_path: Path) -> None:
    spec, place = make_cell(tmp_path, learning_rate=1e200, warmup_steps=0)
    result = run_cell(spec, place, None, fresh=False)
    assert result.status is Status.DIVERGED
    assert "step" in result.reason
    assert result.rows == []


def test_what_the_device_cannot_compute_is_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("cpu", "auto"):
        spec, place = make_cell(tmp_path)
        spec = replace(spec, precision="16-mixed", trainer={"accelerator": accelerator})
        result = run_cell(spec, place, None, fresh=False)
        assert result.status is Status.UNSUPPORTED
        assert result.reason.startswith("trainer.precision=16-mixed needs a CUDA device")


def test_an_error_of_the_cells_code_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    spec, place = make_cell(tmp_path)
    result = run_cell(replace(spec, method_settings={"memory_lenght": 8}), place, None, fresh=False)
    assert result.status is Status.ERROR
    assert result.reason.startswith("SettingsError: method.transformer_xl.memory_lenght")
    assert "Traceback" in result.traceback
