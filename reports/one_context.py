"""The figure of a comparison at one context: a line across for each method, impl and share alive, and a dot on it.

An entry without a result has its status in place of the dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.drawing import figure, log_ticks, title
from reports.scaling import WHAT, Look, Row, looks_of, model, of_line


def draw(content: Mapping[str, Any]) -> Figure:
    """The figure of a comparison, whose content `contexts.read` gave and whose rows have one context."""
    rows: Sequence[Row] = content["rows"]
    looks = looks_of(rows, content["cards"])
    drawn, (left, right) = figure(10.0, 1.3 + 0.24 * len(rows), 2)
    for axes, key, unit in ((left, "time_ms_p50", 1.0), (right, "peak_bytes", 1e6)):
        for place, row in enumerate(rows):
            _dot(axes, place, row, key, unit, looks[of_line(row)])
        axes.set_ylim(len(rows) - 0.4, -0.6)  # the first at the top
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    left.set_yticks(range(len(rows)), [str(looks[of_line(row)]["label"]) for row in rows])
    right.set_yticks(range(len(rows)), [""] * len(rows))
    title(left, f"time of {WHAT[content['shape']['scope']]}")
    left.set_xlabel("time (ms), lower is better")
    title(right, "peak memory over static")
    right.set_xlabel("memory (MB), lower is better")
    about = f"{content['provenance']['device']}: {model(content)}, context {rows[0]['context']:,}"
    drawn.suptitle(about, x=0.01, ha="left", fontsize=9)
    return drawn


def _dot(axes: Axes, place: int, row: Row, key: str, unit: float, look: Look) -> None:
    """The dot, and for times a line from their 20th to their 80th percentile."""
    if row[key] is None:
        across = axes.get_yaxis_transform()
        axes.annotate(row["status"], (0.02, place), xycoords=across, fontsize=7, va="center", color=look["color"])
        return
    axes.plot([row[key] / unit], [place], **{**look, "linestyle": "none"})
    if key == "time_ms_p50":
        axes.hlines(place, row["time_ms_p20"], row["time_ms_p80"], look["color"], lw=1.2)
