"""What all figures share: that nothing of one is drawn over another part of it."""

from __future__ import annotations

import pytest

from reports.drawing import figure, legend, title


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
