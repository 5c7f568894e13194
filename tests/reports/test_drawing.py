"""What all figures share: that nothing of one is drawn over another part of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from reports.drawing import crop, figure, legend, levels, percent, title, write


@pytest.mark.parametrize("label", ["XL", "Full attention (memory=none, train.learning_rate=3e-4)"])
def test_a_legend_stands_beside_axes_and_title_however_long_its_labels_are(label: str) -> None:
    drawn, (axes,) = figure(7.6, 3.8)
    axes.plot([0, 1], [0, 1], label=label)
    title(axes, "portal-3rooms-3x3-floor: second_tries by distance")
    legend(drawn, axes)
    drawn.draw_without_rendering()
    beside = drawn.legends[0].get_window_extent()
    heading = axes._left_title.get_window_extent()  # type: ignore[attr-defined]
    assert max(axes.get_window_extent().x1, heading.x1) < beside.x0
    assert beside.x1 <= drawn.bbox.x1


def test_a_levels_name_stands_beside_the_axes_at_its_height() -> None:
    drawn, (axes,) = figure(7.6, 3.8)
    axes.plot([0, 1], [0, 10], label="XL")
    levels(axes, {"chance": 4.0})
    legend(drawn, axes)
    drawn.draw_without_rendering()
    (name,) = [text for text in axes.texts if text.get_text() == "chance"]
    room, axes_room = name.get_window_extent(), axes.get_window_extent()
    assert axes_room.x1 < room.x0
    assert room.x1 < drawn.legends[0].get_window_extent().x0
    assert room.y0 < axes.transData.transform((1, 4.0))[1] < room.y1


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(-80.0, 140.0, (-4.0, 104.0)), (20.0, 140.0, (20.0, 104.0)), (-1.0, 60.0, (-1.0, 60.0))],
)
def test_an_interval_wider_than_all_percents_does_not_widen_the_axes(
    low: float, high: float, shown: tuple[float, float]
) -> None:
    _, (axes,) = figure(7.6, 3.8)
    axes.set_ylim(low, high)
    percent(axes)
    assert axes.get_ylim() == shown


@pytest.mark.parametrize(
    ("floor", "higher", "end", "cropped", "named"),
    [
        ("No memory", False, 3.5, True, ["beyond the axis: lost 3.5"]),
        ("No memory", False, 3.1, True, []),  # it begins beyond the axis, and ends within
        ("No memory", False, 2.95, False, []),  # no further behind than the best is ahead
        ("No memory", True, 3.5, False, []),  # it is the best
        ("", False, 3.5, False, []),
    ],
)
def test_what_falls_far_behind_no_memory_is_named_beyond_the_axis(
    floor: str, higher: bool, end: float, cropped: bool, named: list[str]
) -> None:
    _, (axes,) = figure(7.6, 3.8)
    lines = {"XL": [3.0, 2.6], "No memory": [3.2, 2.8], "lost": [4.0, end]}
    for values in lines.values():
        axes.plot([0, 1], values)
    before = axes.get_ylim()
    crop(axes, lines, floor, higher)
    assert axes.get_ylim() == (pytest.approx((2.6 - 0.03, 3.2 + 0.03)) if cropped else before)
    assert [text.get_text() for text in axes.texts] == named


def test_a_level_stays_in_sight_where_axes_are_cropped() -> None:
    _, (axes,) = figure(7.6, 3.8)
    crop(axes, {"XL": [2.6], "No memory": [2.8], "lost": [9.0]}, "No memory", False, references=[3.6])
    assert axes.get_ylim() == pytest.approx((2.6 - 0.05, 3.6 + 0.05))


def test_a_picture_has_a_palette_in_which_its_colours_are_the_same(tmp_path: Path) -> None:
    drawn, (axes,) = figure(4.0, 3.0)
    axes.plot([0, 1], [0, 1], color="#D55E00", linewidth=4)
    svg, png = write(drawn, tmp_path, "one")
    assert (svg.suffix, png.suffix) == (".svg", ".png")
    with Image.open(png) as picture:
        assert picture.mode == "P"
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(0xD5, 0x5E, 0x00), (255, 255, 255)} <= colours
