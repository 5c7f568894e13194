"""A score against a setting that is varied: which lines are one, what is best, and what a study that chooses shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.store import manifest
from bench.store.frame import load
from bench.store.statuses import Status
from models.registry import load_file
from reports import by_setting_figure
from reports.build import build_report
from reports.by_setting import Varied, by_setting
from reports.page import quality_tables
from reports.quality import QualityTable

stored = load_file(Path(__file__).with_name("stored_studies.py"))
RATES = (3e-4, 1e-3, 3e-3)


def cells(method: str, values: tuple[float, ...], variant: str = "", **settings: Any) -> list[Any]:
    """One cell per rate."""
    return [
        stored.Stored(
            stored.spec(
                method,
                variant="+".join(filter(None, [variant, f"train.learning_rate={rate:g}"])),
                rate=rate,
                method_settings=settings,
            ),
            value,
            validation=value + 0.5,
        )
        for rate, value in zip(RATES, values, strict=True)
    ]


def grid(folder: Path, judged_by: str = "test") -> Path:
    results = [
        *cells("transformer_xl", (3.0, 2.5, 2.6)),
        *cells("full_attention", (3.1, 3.0, 3.0), "memory=none", memory="none"),
        *cells("full_attention", (2.9, 2.8, 2.7), max_span=64),
    ]
    study: Path = stored.study(folder, results)
    titles = {**stored.CARDS, "presets": {"grid": {"about": "a grid", "judged_by": judged_by}}}
    manifest.merge(study, [], titles=titles)
    return study


def varied(study: Path, split: str = "test") -> tuple[QualityTable, list[Varied]]:
    (quality,) = quality_tables(load(study), split)
    return quality, by_setting(quality)


def scores(found: Varied) -> dict[str, dict[float, float | None]]:
    """By line and value."""
    return {
        line.name: {value: None if point.score is None else point.score.value for value, point in line.points.items()}
        for line in found.lines
    }


def test_lines_that_differ_in_one_number_are_one_line(tmp_path: Path) -> None:
    _, (found,) = varied(grid(tmp_path / "s"))
    assert found.key == "train.learning_rate"
    assert scores(found) == {
        "Transformer-XL": {3e-4: 3.0, 1e-3: 2.5, 3e-3: 2.6},
        "No memory": {3e-4: 3.1, 1e-3: 3.0, 3e-3: 3.0},
        "Full attention (max_span=64)": {3e-4: 2.9, 1e-3: 2.8, 3e-3: 2.7},
    }
    assert [line.best(False) for line in found.lines] == [1e-3, 1e-3, 3e-3], "of equals the smallest"
    assert found.lines[0].best(True) == 3e-4


def test_the_table_has_a_column_for_each_value_and_chooses_nothing_by_the_test(tmp_path: Path) -> None:
    text, files = build_report(grid(tmp_path / "s"))
    header = "test bpb (bits/byte) ↓ by train.learning_rate"
    assert stored.line_of(text, header) == [header, "0.0003", "0.001", "0.003"]
    rows = text[text.index(header) :]
    assert stored.line_of(rows, "Transformer-XL") == ["Transformer-XL", "3.0000", "2.5000", "2.6000"]
    assert [path.name for path in files if path.suffix == ".svg"] == ["enwik8-4M-by-setting-train.learning_rate.svg"]
    assert "Figures along training or distance are left out" in text


def test_a_study_that_is_judged_by_validation_names_the_best_and_shows_no_test(tmp_path: Path) -> None:
    text, _ = build_report(grid(tmp_path / "s", judged_by="validation"))
    header = "validation bpb (bits/byte) ↓ by train.learning_rate"
    assert stored.line_of(text, header)[-1] == "best at"
    rows = text[text.index(header) :]
    assert stored.line_of(rows, "Transformer-XL") == ["Transformer-XL", "3.5000", "3.0000", "3.1000", "0.001"]
    assert stored.line_of(rows, "Full attention (max_span=64)")[-1] == "0.003"
    assert "2.5000" not in text
    assert "This study serves to choose settings: its lines are ordered by validation" in text
    assert "Seeds here: 0." in text


def test_the_figure_has_each_lines_points(tmp_path: Path) -> None:
    quality, (found,) = varied(grid(tmp_path / "s"))
    (axes,) = by_setting_figure.draw(quality, found, stored.CARDS["methods"]).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["Transformer-XL", "No memory", "Full attention (max_span=64)"]
    assert axes.get_xticks().tolist() == list(RATES)
    places = [np.asarray(line.get_xdata(), dtype=float) for line in lines.values()]
    assert places[1].tolist() == list(RATES)
    assert (places[0] < places[1]).all(), "none hides another that is equal"
    assert (places[1] < places[2]).all()
    assert places[2] == pytest.approx(list(RATES), rel=0.1)
    assert np.asarray(lines["Transformer-XL"].get_ydata()).tolist() == [3.0, 2.5, 2.6]
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "test bpb (bits/byte), lower is better"
    looks = {(line.get_color(), line.get_marker()) for line in lines.values()}
    assert len(looks) == 3 - 1, "cards without a look share one, no memory has its own"


def test_the_figure_of_percents_ends_with_them(tmp_path: Path) -> None:
    quality, (found,) = varied(grid(tmp_path / "s"))
    (axes,) = by_setting_figure.draw(replace(quality, unit="%", references={"far": 150.0}), found, {}).axes
    assert axes.get_ylim()[1] == 104
    (axes,) = by_setting_figure.draw(replace(quality, references={"far": 150.0}), found, {}).axes
    assert axes.get_ylim()[1] > 150, "bits have no end"


@pytest.mark.parametrize("count", [1, 2])
def test_two_values_tell_two_things_apart_and_vary_nothing(tmp_path: Path, count: int) -> None:
    study = stored.study(tmp_path / "s", cells("transformer_xl", (3.0, 2.5, 2.6))[:count])
    assert varied(study)[1] == []


def test_lines_of_one_name_are_told_apart(tmp_path: Path) -> None:
    results = [
        *cells("full_attention", (2.9, 2.8, 2.7), max_span=64),
        *cells("full_attention", (2.6, 2.5, 2.4), max_span=512),
        *cells("full_attention", (2.3, 2.2, 2.1), max_span=512, positions="none"),
    ]
    _, (found,) = varied(stored.study(tmp_path / "s", results))
    first, second, third = scores(found)
    assert first == "Full attention (max_span=64)"
    assert second.startswith("Full attention (max_span=512) [1: ")
    assert third.startswith("Full attention (max_span=512) [2: ")
    assert scores(found)[third] == {3e-4: 2.3, 1e-3: 2.2, 3e-3: 2.1}


def test_a_value_that_is_also_the_presets_is_one_point(tmp_path: Path) -> None:
    plain = [
        stored.Stored(stored.spec("transformer_xl", seed, rate=1e-3), value) for seed, value in ((0, 2.0), (1, 2.2))
    ]
    _, (found,) = varied(stored.study(tmp_path / "s", [*cells("transformer_xl", (3.0, 2.5, 2.6)), *plain]))
    assert scores(found) == {"Transformer-XL": {3e-4: 3.0, 1e-3: 2.1, 3e-3: 2.6}}, "the one with more seeds"


def test_what_is_stale_or_has_failed_says_so(tmp_path: Path) -> None:
    results = cells("transformer_xl", (3.0, 2.5, 2.6))
    results[0] = replace(results[0], fingerprint="of other code")
    results[2] = replace(results[2], value=None, status=Status.DIVERGED)
    text, _ = build_report(stored.study(tmp_path / "s", results))
    rows = text[text.index("by train.learning_rate") :]
    assert stored.line_of(rows, "Transformer-XL (stale)")[1:] == ["3.0000", "2.5000", "-"]


def test_lines_that_differ_in_more_than_the_number_are_not_one(tmp_path: Path) -> None:
    results = [
        stored.Stored(
            stored.spec("transformer_xl", variant=f"memory_length={length}", method_settings={"memory_length": length}),
            2.0 + length / 100,
        )
        for length in (8, 16, 32)
    ]
    assert [found.key for found in varied(stored.study(tmp_path / "s", results))[1]] == ["memory_length"]
    results[1] = stored.Stored(
        stored.spec("transformer_xl", variant="memory_length=16", rate=1.0, method_settings={"memory_length": 16}), 2.1
    )
    assert varied(stored.study(tmp_path / "t", results))[1] == []
