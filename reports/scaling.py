"""The figure of a comparison: time and memory against context length, one line per method and share alive.

An entry without a result is a cross above all lines, at its context, with why beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.drawing import LINES, figure, legend, log_ticks, title

Row = Mapping[str, Any]
Line = tuple[str, str, str]
"""Method, impl, and what of its memory is alive."""
Look = dict[str, Any]
"""Keywords for `Axes.plot`."""

WHAT = {
    "step": "a training step",
    "layer": "one layer's forward and backward",
    "token": "reading one token of each row",
}
"""What a comparison's scopes time."""
_LEAST = 4.0
_NO_FAILURE = ("ok", "unsupported")


def draw(content: Mapping[str, Any]) -> Figure:
    """The figure of a comparison, whose content `contexts.read` gave."""
    rows: Sequence[Row] = content["rows"]
    drawn, (left, right) = figure(10.0, 4.2, 2)
    looks = looks_of(rows, content["cards"])
    panels: tuple[tuple[Axes, str, float], ...] = ((left, "time_ms_p50", 1.0), (right, "peak_bytes", 1e6))
    for axes, key, unit in panels:
        for entry, look in looks.items():
            mine = [row for row in rows if of_line(row) == entry]
            if any(row["status"] != "unsupported" for row in mine):
                _line(axes, mine, key, unit, look)
        _scales(axes, sorted({row["context"] for row in rows}))
        missing = [row for row in rows if row[key] is None]
        if len(missing) == len(rows):
            axes.set_ylim(1, 10)  # on which nothing stands but crosses
        else:
            _widen(axes)
        _failures(axes, [row for row in missing if row["status"] not in _NO_FAILURE], looks)
        log_ticks(axes.yaxis)
    title(left, f"time of {WHAT[content['shape']['scope']]}")
    left.set_ylabel("time (ms), lower is better")
    title(right, "peak memory over static")
    right.set_ylabel("memory (MB), lower is better")
    drawn.suptitle(f"{content['provenance']['device']}: {model(content)}", x=0.01, ha="left", fontsize=9)
    legend(drawn, left)
    return drawn


def model(content: Mapping[str, Any]) -> str:
    """The sizes of what was compared, in words."""
    shape = content["shape"]
    what = "one layer" if shape["scope"] == "layer" or shape["layers"] == 1 else f"{shape['layers']} layers"
    return (
        f"{what}, {shape['heads']} heads of {shape['head_dim']}, blocks of {shape['block']} tokens, "
        f"{shape['batch']} rows, {shape['precision']}"
    )


def of_line(row: Row) -> Line:
    """What the rows of one line have in common."""
    return row["method"], row["impl"], row["remembers"]


def looks_of(rows: Sequence[Row], cards: Mapping[str, Mapping[str, Any]]) -> dict[Line, Look]:
    """Each line's look: colour and marker are the method's, dashes and the marker's paleness say what is alive.

    Lines of another impl than the first are thin.
    """
    most: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: -row["alive"]):
        most.setdefault(row["remembers"], row["alive"])
    impls = list(dict.fromkeys(row["impl"] for row in rows))
    forgets = {row["method"] for row in rows if row["alive"] != 1}
    looks = {}
    for method, impl, remembers in dict.fromkeys(map(of_line, rows)):
        card, alive = cards[method], most[remembers]
        label = card["title"] + (f", {impl}" if len(impls) > 1 else "")
        style = LINES[list(most).index(remembers) % 4]
        look: Look = {"color": card["colour"], "marker": card["marker"], "linestyle": style}
        look["label"] = label + (f", {remembers} alive" if method in forgets else "")
        look["markerfacecolor"] = [1 - alive * (1 - part) for part in to_rgb(card["colour"])]
        if impl != impls[0]:
            look |= {"linewidth": 0.8, "markersize": 3.5}
        looks[method, impl, remembers] = look
    return looks


def _line(axes: Axes, rows: Sequence[Row], key: str, unit: float, look: Look) -> None:
    """The line, and for times their 20th to 80th percentile."""
    measured = sorted((row for row in rows if row[key] is not None), key=lambda row: int(row["context"]))
    values = [row[key] / unit for row in measured]
    contexts = [row["context"] for row in measured]
    axes.plot(contexts, values, **look)
    if key == "time_ms_p50":
        low, high = ([row[name] for row in measured] for name in ("time_ms_p20", "time_ms_p80"))
        axes.vlines(contexts, low, high, look["color"], lw=0.8)


def _widen(axes: Axes) -> None:
    """Shows a factor of `_LEAST` at the least, lest lines that are all but level look steep."""
    low, high = axes.get_ylim()
    more = (_LEAST / (high / low)) ** 0.5
    if more > 1:
        axes.set_ylim(low / more, high * more)


def _failures(axes: Axes, rows: Sequence[Row], looks: Mapping[Line, Look]) -> None:
    """A cross for each, those of one context below each other, in room made above the lines."""
    if not rows:
        return
    contexts = [row["context"] for row in rows]
    most = max(map(contexts.count, contexts))
    step = min(0.06, 0.5 / most)
    low, high = axes.get_ylim()
    axes.set_ylim(low, low * (high / low) ** (1 / (1 - step * (most + 0.5))))
    first, last = axes.get_xlim()
    across = axes.get_xaxis_transform()
    for index, row in enumerate(rows):
        look, place = looks[of_line(row)], 1 - step * (0.75 + contexts[:index].count(row["context"]))
        axes.plot(row["context"], place, color=look["color"], marker="x", markersize=6, transform=across)
        leftwards = row["context"] ** 2 > first * last
        label = axes.annotate(
            f"{look['label']}: {row['status']}",
            (row["context"], place),
            (-6 if leftwards else 6, 0),
            xycoords=across,
            textcoords="offset points",
            fontsize=7,
            ha="right" if leftwards else "left",
            va="center",
            color=look["color"],
        )
        label.set_in_layout(False)  # a long one takes no width from the axes


def _scales(axes: Axes, contexts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("context (positions)")
    axes.set_xticks(contexts)
    axes.set_xlim(contexts[0] / 1.3, contexts[-1] * 1.3)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
