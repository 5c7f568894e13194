"""The figure of learning curves: what it draws of what was logged, and what it may not hide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.store import manifest
from bench.store.frame import load
from models.registry import load_file
from reports import learning_curves
from reports.drawing import looks
from reports.page import quality_tables

stored = load_file(Path(__file__).with_name("stored_studies.py"))
STEPS = 100
TOKENS = 4 * 8 / 1000  # thousands per step: batch size and block length of the stored cells


def drawn(folder: Path, losses: Mapping[tuple[str, int], Mapping[int, float]], **logged: Any) -> Figure:
    """The figure of a study whose cells, (method, seed), have these training losses by step."""
    specs = {
        key: stored.spec(*key, train={"steps": STEPS}, method_settings=logged.get("settings", {}).get(key[0], {}))
        for key in losses
    }
    study = stored.study(folder / "s", [stored.Stored(spec, 2.5) for spec in specs.values()])
    for key, curve in losses.items():
        records = [(step, "loss", value, "train") for step, value in curve.items()]
        records += [
            (step, "bpb", value, "validation") for step, value in logged.get("validation", {}).get(key, {}).items()
        ]
        names = ("step", "metric", "value", "split")
        manifest.cell_folder(study, specs[key].id).append(
            dict(zip(names, record, strict=True)) | {"seconds": 1.0} for record in records
        )
    (quality,) = quality_tables(load(study))
    looked = looks([line.group for line in quality.lines], {})
    figure = learning_curves.draw(study, quality, looked, logged.get("step_ms", {}))
    assert figure is not None
    return figure


def points(line: Line2D) -> list[list[float]]:
    found = np.asarray(line.get_xydata(), dtype=float).tolist()
    assert isinstance(found, list)
    return found


def test_a_late_spike_and_a_method_that_diverges_stay_in_the_panel(tmp_path: Path) -> None:
    calm = {step: 2.0 for step in range(5, STEPS + 1, 5)}
    spiked = {**calm, 90: 40.0}
    diverging = {step: 2.0 + step for step in calm}
    _, right = drawn(tmp_path, {("transformer_xl", 0): spiked, ("expire_span", 0): diverging}).axes
    low, high = right.get_ylim()
    assert low < 2.0
    assert high > 2.0 + STEPS
    assert [90 * TOKENS, 40.0] in points(right.lines[0])


def test_the_first_steps_are_left_out_by_step_and_the_axis_says_so(tmp_path: Path) -> None:
    losses = {step: 50.0 if step <= 5 else 2.0 for step in range(1, STEPS + 1, 4)}
    _, right = drawn(tmp_path, {("transformer_xl", 0): losses}).axes
    assert points(right.lines[0])[0][0] == pytest.approx(9 * TOKENS)
    assert right.get_ylim()[1] < 3
    assert right.get_xlabel() == "training tokens (thousands), the first 5 % left out"


def test_many_losses_are_drawn_as_means_over_stretches_of_the_training(tmp_path: Path) -> None:
    losses = {step: float(step % 2) for step in range(1, STEPS + 1)}
    _, right = drawn(tmp_path, {("transformer_xl", 0): losses}).axes
    found = points(right.lines[0])
    assert len(found) == 32, "95 steps in stretches of 3"
    assert found[0] == pytest.approx([7 * TOKENS, 1 / 3])
    assert "means over stretches" in right.get_ylabel()


def test_seeds_are_a_mean_with_their_range_and_the_legend_says_so(tmp_path: Path) -> None:
    losses: dict[tuple[str, int], dict[int, float]] = {("transformer_xl", seed): {50: 2.0 + seed} for seed in range(3)}
    validation = {key: {50: 2.0 + key[1], 100: 2.0} for key in losses}
    figure = drawn(tmp_path, losses, validation=validation)
    left, right = figure.axes
    assert points(left.lines[0]) == [[50 * TOKENS, 3.0], [100 * TOKENS, 2.0]]
    assert points(right.lines[0]) == [[50 * TOKENS, 3.0]]
    (band,) = left.collections
    heights = [y for _, y in band.get_paths()[0].vertices.tolist()]  # type: ignore[union-attr]
    assert (min(heights), max(heights)) == (2.0, 4.0)
    assert figure.legends[0].get_title().get_text() == "mean; band: range over seeds"


def test_validation_is_drawn_against_time_too_for_whom_the_clock_has_timed(tmp_path: Path) -> None:
    losses = {(method, 0): {50: 2.0} for method in ("transformer_xl", "expire_span")}
    validation = {key: {50: 2.5, 100: 2.0} for key in losses}
    step_ms = {"Transformer-XL": None, "Expire-Span": 1200.0}
    figure = drawn(tmp_path, losses, validation=validation, step_ms=step_ms)
    left, _, third = figure.axes
    (line,) = third.lines
    assert (line.get_label(), points(line)) == ("Expire-Span", [[1.0, 2.5], [2.0, 2.0]])
    assert third.get_ylabel() == left.get_ylabel()
    assert "minutes" in third.get_xlabel()


def test_all_panels_end_where_a_line_falls_far_behind_no_memory(tmp_path: Path) -> None:
    ends = {"expire_span": 2.0, "full_attention": 2.2, "transformer_xl": 4.0}
    losses = {(method, seed): {100: end} for method, end in ends.items() for seed in (0, 1)}
    # Seeds lie as far from their mean as bands show; a last batch's loss is not where a line of means ends.
    validation = {(method, seed): {100: ends[method] + 0.1 * (2 * seed - 1)} for method, seed in losses}
    many = {key: {step: curve[100] for step in range(6, 101)} | {100: 2.1} for key, curve in losses.items()}
    figure = drawn(
        tmp_path,
        many,
        validation=validation,
        settings={"full_attention": {"memory": "none"}},
        step_ms=dict.fromkeys(("Expire-Span", "No memory", "Transformer-XL"), 1.0),
    )
    left, right, third = figure.axes
    assert left.get_ylim() == pytest.approx((1.9 - 0.02, 2.3 + 0.02))
    assert right.get_ylim()[1] < 2.3
    assert third.get_ylim() == pytest.approx((2.0 - 0.01, 2.2 + 0.01))
    for axes, end in ((left, "4"), (right, "3.05"), (third, "4")):
        assert [text.get_text() for text in axes.texts] == [f"beyond the axis: Transformer-XL {end}"]


def test_where_nothing_was_timed_there_is_no_panel_for_it(tmp_path: Path) -> None:
    losses = {("transformer_xl", 0): {50: 2.0}}
    figure = drawn(tmp_path, losses, validation={("transformer_xl", 0): {50: 2.0}}, step_ms={"Transformer-XL": None})
    assert len(figure.axes) == 2


def test_with_one_seed_the_legend_names_no_band(tmp_path: Path) -> None:
    losses = {("transformer_xl", 0): {50: 2.0}}
    figure = drawn(tmp_path, losses, validation={("transformer_xl", 0): {50: 2.0}})
    assert figure.legends[0].get_title().get_text() == ""


def test_lines_of_one_method_differ_without_colour_in_the_studys_order(tmp_path: Path) -> None:
    variants = ["", *(f"train.learning_rate=1e-{number}" for number in range(1, 8))]
    results = [
        stored.Stored(stored.spec("transformer_xl", variant=variant), 3.0 - number / 10)
        for number, variant in enumerate(variants)
    ]
    (quality,) = quality_tables(load(stored.study(tmp_path / "s", results)))
    assert quality.lines[-1].group.label == "Transformer-XL", "the worst, and last in the table"
    looked = looks([line.group for line in quality.lines], {"transformer_xl": {"colour": "#000000", "marker": "o"}})
    drawn = {(look.keywords()["linestyle"], look.keywords()["markerfacecolor"]) for look in looked.values()}
    assert len(drawn) == 8
    plain = looked["Transformer-XL"].keywords()
    assert (plain["linestyle"], plain["markerfacecolor"]) == ("-", "#000000")


def test_lines_of_one_method_have_shades_of_its_colour(tmp_path: Path) -> None:
    variants = ["", *(f"train.learning_rate=1e-{number}" for number in range(1, 4))]
    results = [stored.Stored(stored.spec("transformer_xl", variant=variant), 3.0) for variant in variants]
    (quality,) = quality_tables(load(stored.study(tmp_path / "s", results)))
    looked = looks([line.group for line in quality.lines], {"transformer_xl": {"colour": "#408000", "marker": "o"}})
    assert [look.colour for look in looked.values()] == ["#408000", "#204000", "#a0c080", "#408000"]
