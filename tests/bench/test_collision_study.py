"""object_collision as a study: what is refused before it starts, and the rows that its cells leave in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import presets
from bench.cell import run_cell
from bench.presets.preset import read
from bench.store import manifest
from bench.store.frame import load
from bench.study import Study, plan
from models.errors import SettingsError


def planned(*assignments: str) -> Study:
    return plan(
        read(presets.path("quick"), "quick.yaml"),
        name="made",
        tasks=["object_collision"],
        methods=["transformer_xl"],
        assignments=assignments,
    )


def test_scoring_with_memory_not_yet_full_is_refused_with_the_key_and_its_source() -> None:
    assert planned("task.object_collision.unscored_tokens=64").cells
    with pytest.raises(SettingsError, match=r"unscored_tokens.*--set.*63 tokens.*back 64") as raised:
        planned("task.object_collision.unscored_tokens=63")
    assert raised.value.key == "task.object_collision.unscored_tokens"


def test_errors_by_distance_reach_the_table_bin_by_bin(tmp_path: Path) -> None:
    study = planned("train.steps=4", "train.validate_every=4", "trainer.accelerator=cpu")
    (cell,) = study.cells
    assert cell.task_label == "object_collision-4x4-2colours"
    manifest.merge(tmp_path / "made", [cell], titles=study.cards)
    place = manifest.cell_folder(tmp_path / "made", cell.id)
    place.write_result(run_cell(cell, place, None, fresh=False))

    table = load(tmp_path / "made")
    assert table.attrs["damaged"] == []
    test = table[table["split"] == "test"]
    (error,) = test[test["metric"] == "error"].to_dict("records")
    bins = test[test["metric"] == "error_by_distance"].to_dict("records")
    assert error["unit"] == "%"
    assert error["n"] >= 1000
    assert error["context"]["unscored_tokens"] == 128
    assert len({row["context"]["distance"] for row in bins}) == len(bins) > 5
    assert sum(row["n"] for row in bins) == error["n"]
    assert sum(row["n"] * row["value"] for row in bins) / error["n"] == pytest.approx(error["value"])
    assert len(table[(table["split"] == "validation") & (table["metric"] == "error")]) == 1
