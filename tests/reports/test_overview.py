"""The overview of a study: every method's score on every task, what is missing left open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.store.result import Row
from bench.store.statuses import Status
from models.registry import load_file
from reports.build import build_report

stored = load_file(Path(__file__).with_name("stored_studies.py"))


def study(folder: Path, tasks: tuple[str, ...]) -> Path:
    """Full attention with another window on each task, without memory, and Transformer-XL, which fails in one."""
    results = []
    for number, task in enumerate(tasks):
        window = {"max_span": 64 * (number + 1)}
        oracle = (Row("success_oracle", 99.0, "%", "test", 10),) if task == "corridor" else ()
        for seed, value in enumerate((2.0, 3.0, 4.0)):
            spec = stored.spec("full_attention", seed, task=task, method_settings=window)
            results.append(stored.Stored(spec, value, scores=oracle))
        results.append(
            stored.Stored(
                stored.spec("full_attention", 0, "memory=none", task=task, method_settings={"memory": "none"}), 7.0
            )
        )
        bad = {"status": Status.OOM} if task == "corridor" else {}
        results.append(stored.Stored(stored.spec("transformer_xl", 0, task=task), None if bad else 2.5, **bad))
    return Path(stored.study(folder, results))


def table(text: str) -> list[list[str]]:
    part: Any = stored.section(text, "All tasks")
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_a_method_has_one_line_with_its_score_on_every_task(tmp_path: Path) -> None:
    text, _ = build_report(study(tmp_path / "s", ("enwik8", "corridor")))
    assert table(text) == [
        ["method", "enwik8-4M: test bpb (bits/byte) ↓", "corridor: test success (%) ↑"],
        ["Full attention", "3.0000 ± 2.4841", "3.0 ± 2.5"],
        ["No memory", "7.0000", "7.0"],
        ["Transformer-XL", "2.5000", "-"],
        ["oracle", "-", "99.0"],
    ]


def test_one_task_needs_no_overview(tmp_path: Path) -> None:
    text, _ = build_report(study(tmp_path / "s", ("enwik8",)))
    assert "All tasks" not in text


def test_two_settings_of_a_method_keep_their_labels(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", ("enwik8", "corridor"))
    more = stored.spec("full_attention", 0, task="enwik8", method_settings={"max_span": 16})
    stored.study(folder, [stored.Stored(more, 9.0)])
    text, _ = build_report(folder)
    names = [line[0] for line in table(text)]
    assert "Full attention (max_span=64)" in names
    assert "Full attention (max_span=16)" in names
