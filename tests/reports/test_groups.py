"""Which cells share a table, and so a baseline: those that differ in method, training recipe and seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.store.frame import load
from models.registry import load_file
from reports.build import build_report
from reports.groups import groups

stored = load_file(Path(__file__).with_name("stored_studies.py"))
BASELINE, OURS = 2.5, 2.4


def report(folder: Path, *differences: dict[str, Any]) -> str:
    """The report of a study that has, for each difference, a Transformer-XL and an Expire-Span that is 0.1 better."""
    results = []
    for number, changes in enumerate(differences):
        results.append(stored.Stored(stored.spec("transformer_xl", **changes), BASELINE + number))
        results.append(stored.Stored(stored.spec("expire_span", **changes), OURS + number))
    text, _ = build_report(stored.study(folder, results))
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("one", "other", "headings"),
    [
        ({"train": {"steps": 10}}, {"train": {"steps": 20}}, ["train.steps=10", "train.steps=20"]),
        ({"train": {"batch_size": 4}}, {"train": {"batch_size": 8}}, ["train.batch_size=4", "train.batch_size=8"]),
        (
            {"train": {"block_length": 8}},
            {"train": {"block_length": 16}},
            ["train.block_length=8", "train.block_length=16"],
        ),
        (
            {"train": {"evaluation_batch_size": 2}},
            {"train": {"evaluation_batch_size": 4}},
            ["train.evaluation_batch_size=2", "train.evaluation_batch_size=4"],
        ),
        ({"backbone": {"width": 64}}, {"backbone": {"width": 128}}, ["backbone.width=64", "backbone.width=128"]),
        (
            {"precision": "32-true"},
            {"precision": "64-true"},
            ["trainer.precision=32-true", "trainer.precision=64-true"],
        ),
        (
            {"task_settings": {"path": "a/c.txt"}},
            {"task_settings": {"path": "b/c.txt"}},
            ["task.enwik8.path=a/c.txt", "task.enwik8.path=b/c.txt"],
        ),
        ({"task_version": 1}, {"task_version": 2}, ["task_version=1", "task_version=2"]),
    ],
)
def test_cells_that_do_not_compare_stand_in_tables_of_their_own_each_with_its_baseline(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], headings: list[str]
) -> None:
    text = report(tmp_path / "s", one, other)
    for number, heading in enumerate(headings):
        part = stored.section(text, f"enwik8-4M ({heading})")
        assert stored.line_of(part, "Transformer-XL")[1] == f"{BASELINE + number:.4f}"
        assert stored.line_of(part, "Expire-Span")[1:3] == [f"{OURS + number:.4f}", "-0.1000"]
        assert part.count("| Expire-Span") == 1


def test_files_of_one_name_are_told_apart_by_content_and_one_file_is_one_under_two_names(tmp_path: Path) -> None:
    files = [("c.txt", "ab" * 32, 0), ("c.txt", "cd" * 32, 0), ("d.txt", "ab" * 32, 1)]
    text = report(
        tmp_path / "s",
        *[
            {"task_settings": {"path": name}, "task_data": {"path": sha256}, "seed": seed}
            for name, sha256, seed in files
        ],
    )
    assert text.count("\n## enwik8-4M") == 2
    part = stored.section(text, "enwik8-4M (task.enwik8.path=sha256 abababababab)")
    assert stored.line_of(part, "Expire-Span")[3] == "2 of 2"
    assert stored.line_of(stored.section(text, "enwik8-4M (task.enwik8.path=sha256 cdcdcdcdcdcd)"), "Expire-Span")


def test_a_plugin_that_has_moved_is_the_same_method(tmp_path: Path) -> None:
    entries = [{"kind": "method", "id": "expire_span", "path": path, "sha256": "ab"} for path in ("a.py", "b/a.py")]
    text = report(tmp_path / "s", *[{"plugins": [entry], "seed": seed} for seed, entry in enumerate(entries)])
    assert stored.line_of(text, "Expire-Span")[3] == "2 of 2"


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "small"},
        {"threads": 4},
        {"time_limit_s": 9.0},
        {"trainer": {"accelerator": "cpu"}},
        {"train": {"learning_rate": 0.1}},
    ],
)
def test_what_does_not_change_what_is_compared_leaves_one_table(tmp_path: Path, change: dict[str, Any]) -> None:
    text = report(tmp_path / "s", {"seed": 0}, {"seed": 1, **change})
    assert "## enwik8-4M\n" in text
    assert "## enwik8-4M (" not in text


def test_tables_of_different_tasks_need_no_settings_in_their_headings(tmp_path: Path) -> None:
    text = report(tmp_path / "s", {}, {"task": "corridor", "train": {"steps": 99}})
    assert "## enwik8-4M\n" in text
    assert "## corridor\n" in text


def test_the_csv_says_which_table_a_line_stands_in(tmp_path: Path) -> None:
    import pandas as pd

    report(tmp_path / "s", {"train": {"steps": 10}}, {"train": {"steps": 20}})
    frame = pd.read_csv(tmp_path / "s" / "report" / "quality.csv")
    assert list(frame["table"].drop_duplicates()) == ["enwik8-4M (train.steps=10)", "enwik8-4M (train.steps=20)"]
    assert set(frame["task"]) == {"enwik8-4M"}


def test_a_groups_rows_carry_no_copy_of_the_whole_study(tmp_path: Path) -> None:
    table = load(stored.study(tmp_path / "s", [stored.Stored(stored.spec("transformer_xl"), 2.5)]))
    assert table.attrs["specs"]
    (group,) = groups(table)
    assert not group.rows.attrs, "pandas copies it all whenever rows are chosen"
    assert table.attrs["specs"]
