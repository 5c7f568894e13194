"""How all figures look: one size of type, quiet axes, a method's own colour and marker, SVG and PNG.

Colour and marker stand in the method's card; variants of a method have shades of the colour and share the marker, and
are told apart by their line too, so that figures stay readable in grey.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from bench.store.atomic import write_bytes
from reports.groups import Group, card_of

LINES = ("-", "--", ":", "-.")
_LOOKS = (*((line, line == "-") for line in LINES), *((line, line != "-") for line in LINES))
"""Lines of one method, one after the other, and whether their markers are filled."""
_SHADES = (0.0, -0.5, 0.5)
"""How much darker or lighter than the method's colour they are, of the way to black or white."""
_LEGEND = 2.0
"""Inches beside the axes that a figure's width has for the legend."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.hashsalt": "spanbench",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """How one line of a table is drawn."""

    label: str
    colour: str
    marker: str
    line: str
    filled: bool
    """Whether its markers are."""

    def keywords(self) -> dict[str, Any]:
        """For `Axes.plot`."""
        return {
            "label": self.label,
            "color": self.colour,
            "linestyle": self.line,
            "marker": self.marker,
            "markerfacecolor": self.colour if self.filled else "white",
        }


def looks(groups: Sequence[Group], cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Look]:
    """Each group's look by its label; groups of one method get different lines, in the study's order.

    Args:
        cards: of the methods, by id.
    """
    return looks_of({group.label: group for group in sorted(groups, key=lambda group: group.position)}, cards)


def looks_of(named: Mapping[str, Group], cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Look]:
    """The looks of lines that each stand for a group, by their names, in this order."""
    found: dict[str, Look] = {}
    seen: dict[str, int] = {}
    for name, group in named.items():
        card = card_of(group.spec, cards)
        number = seen.get(group.title, 0)
        seen[group.title] = number + 1
        line, filled = _LOOKS[number % len(_LOOKS)]
        colour = _shaded(card.get("colour", "#7F7F7F"), _SHADES[number % len(_SHADES)])
        found[name] = Look(name, colour, card.get("marker", "o"), line, filled)
    return found


def _shaded(colour: str, shade: float) -> str:
    """A colour some way towards black, where `shade` is below 0, or white."""
    end = 1.0 if shade > 0 else 0.0
    red, green, blue = (part + abs(shade) * (end - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, with its axes side by side."""
    with matplotlib.rc_context(_STYLE):
        # With some width between panels: an axis's title is not to touch the panel before it.
        drawn = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06))
        axes = drawn.subplots(1, columns, squeeze=False)
    return drawn, list(axes[0])


def title(axes: Axes, text: str) -> None:
    """A title above the axes, to the left."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold")


def log_ticks(axis: Axis) -> None:
    """Round numbers, also where all values lie so close together that 1, 2 and 5 times powers of ten pass them by."""
    low, high = axis.get_view_interval()
    wide = high / low > 5
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if wide else MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


_QUIET: Any = {"color": "#888888", "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": 1}
"""A line that things are read against."""
_NAME: Any = {
    "textcoords": "offset points",
    "fontsize": 7.5,
    "color": "#666666",
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
}
"""The name of such a line, to be read where others cross it."""
_HEAD = 0.08
"""Room for a name above what is drawn, of the axes' height."""
_BEYOND = 4.0
"""Percent beyond 0 and 100, so that markers there are whole."""
_BELOW, _WIDEST = -30, 66
"""Where names below the axes stand, in points, clear of an axis's title; and their line's letters."""
_MARGIN = 0.05
"""Room above and below what is drawn, of its height."""


def levels(axes: Axes, named: Mapping[str, float]) -> None:
    """Quiet lines across the axes, each with its name beside its right end, where nothing is drawn."""
    for name, value in named.items():
        axes.axhline(value, **_QUIET)
        _name_beside(axes, name, value)


def percent(axes: Axes) -> None:
    """Nothing is less than 0 % or more than 100 %, though an interval may be: the axes end a little beyond."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -_BEYOND), min(high, 100 + _BEYOND))


def crop(
    axes: Axes,
    drawn: Mapping[str, Sequence[float]],
    floor: str,
    higher_is_better: bool,
    references: Iterable[float] = (),
) -> None:
    """Ends the axes where lines go on that fall further behind the floor than the best stands ahead of it.

    Beside one such line all others would be flat. Those whose ends are left out are named below the axes, with them.

    Args:
        drawn: all values of each line, by its label, the last one being where it ends.
        floor: the label of the line without memory.
        higher_is_better: whether greater values are.
        references: levels that stay in sight.
    """
    sign = 1 if higher_is_better else -1
    ends = {label: values[-1] for label, values in drawn.items() if values}
    if floor not in ends:
        return
    ahead = max(sign * (end - ends[floor]) for end in ends.values())
    far = {label: end for label, end in ends.items() if sign * (ends[floor] - end) > ahead}
    if not far or not ahead:
        return
    near = [value for label, values in drawn.items() if label not in far for value in values] + list(references)
    margin = _MARGIN * (max(near) - min(near))
    low, high = min(near) - margin, max(near) + margin
    axes.set_ylim(low, high)
    listed = ", ".join(f"{label} {end:.4g}" for label, end in far.items() if not low <= end <= high)
    if not listed:
        return
    below: Any = {"xycoords": "axes fraction", "xytext": (0, _BELOW), "ha": "left", "va": "top"}
    axes.annotate(textwrap.fill(f"beyond the axis: {listed}", _WIDEST), (0.0, 0.0), **below, **_NAME)


def upright(axes: Axes, name: str, x: float) -> None:
    """A quiet line up the axes, with its name at the upper end, to the right, above all that is drawn."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _HEAD * (high - low))
    axes.axvline(x, **_QUIET)
    axes.annotate(name, (x, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(3, -9), ha="left", **_NAME)


def path(axes: Axes, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    """A quiet line through points, with its name beside the axes, as high as it ends."""
    axes.plot(x, y, label="_nolegend_", **_QUIET)
    _name_beside(axes, name, y[-1])


def _name_beside(axes: Axes, name: str, value: float) -> None:
    where: Any = {"xycoords": axes.get_yaxis_transform(), "xytext": (3, 0), "va": "center"}
    axes.annotate(name, (1.0, value), **where, **_NAME)


def legend(drawn: Figure, axes: Axes, length: float = 3.5, title: str = "") -> None:
    """The legend beside the axes, one entry per label; the figure grows where long labels would take the axes' room.

    Args:
        length: of the entries' lines, in the size of the type; long enough to tell dashes from dots.
        title: above the entries.
    """
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    with matplotlib.rc_context(_STYLE):
        beside = drawn.legend(
            unique.values(),
            unique.keys(),
            loc="outside right upper",
            handlelength=length,
            title=title or None,
            alignment="left",
        )
        _take_literally(drawn)
        width, height = drawn.get_size_inches()
        taken = beside.get_window_extent().width / drawn.dpi
        drawn.set_size_inches(width + max(0.0, taken - _LEGEND), height)


def write(drawn: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure as SVG and PNG; the same data give the same bytes."""
    _take_literally(drawn)
    paths = []
    with matplotlib.rc_context(_STYLE):
        for kind, nameless in (("svg", "Date"), ("png", "Software")):
            buffer = io.BytesIO()
            drawn.savefig(buffer, format=kind, dpi=160, metadata={nameless: None})
            paths.append(folder / f"{name}.{kind}")
            write_bytes(paths[-1], buffer.getvalue() if kind == "svg" else _in_few_colours(buffer))
    return paths


def _in_few_colours(png: io.BytesIO) -> bytes:
    """The same picture with a palette, which takes a third of the room and looks no different."""
    small = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _take_literally(drawn: Figure) -> None:
    """A name may hold dollar signs, between which matplotlib would read a formula."""
    for text in drawn.findobj(Text):
        text.set_parse_math(False)
