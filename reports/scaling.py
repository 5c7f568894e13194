"""Time and memory against context length, from a file that ``python -m bench clock --out FILE.json`` wrote.

A method that ran out of memory, or failed, has a cross at the upper edge where it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.store.damaged import DamagedFile, read_json
from reports.drawing import LINES, figure, legend, title

Row = Mapping[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The content of a comparison's file. Raises FileNotFoundError, or DamagedFile where it holds something else."""
    content = read_json(path)
    missing = {"shape", "provenance", "cards", "rows"} - set(content)
    if missing:
        raise DamagedFile(path, f"it lacks {', '.join(sorted(missing))}: `bench clock --out` did not write it")
    return content


def draw(content: Mapping[str, Any]) -> Figure:
    """The figure of a comparison."""
    rows: Sequence[Row] = content["rows"]
    shape, device = content["shape"], content["provenance"]["device"]
    drawn, (left, right) = figure(10.0, 4.0, 2)
    lines = list(dict.fromkeys((row["method"], row["impl"], row["alive"]) for row in rows))
    shares = sorted({row["alive"] for row in rows}, reverse=True)
    impls = list(dict.fromkeys(row["impl"] for row in rows))
    for method, impl, alive in lines:
        mine = [row for row in rows if (row["method"], row["impl"], row["alive"]) == (method, impl, alive)]
        card = content["cards"][method]
        label = card["title"] + (f", {impl}" if len(impls) > 1 else "")
        label += f", {alive:.0%} alive" if any(row["alive"] != 1 for row in rows if row["method"] == method) else ""
        look = {"color": card["colour"], "marker": card["marker"], "label": label}
        look["linestyle"] = LINES[shares.index(alive) % len(LINES)]
        look["alpha"] = 1.0 if impl == impls[0] else 0.6
        _line(left, mine, "time_ms_p50", 1.0, look)
        _line(right, mine, "peak_bytes", 1e6, look)
    what = "one layer" if shape["scope"] == "layer" else f"{shape['layers']} layers"
    title(left, f"time per {'training step' if shape['scope'] == 'step' else 'forward and backward'}")
    left.set_ylabel("time (ms)")
    title(right, "peak memory over static")
    right.set_ylabel("memory (MB)")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("context (positions)")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    drawn.suptitle(
        f"{device}: {what}, H {shape['heads']}, D {shape['head_dim']}, T {shape['block']}, B {shape['batch']}, "
        f"{shape['precision']}",
        x=0.01,
        ha="left",
        fontsize=9,
    )
    legend(drawn, left)
    return drawn


def _line(axes: Axes, rows: Sequence[Row], key: str, unit: float, look: Mapping[str, Any]) -> None:
    measured = [(row["context"], row[key] / unit) for row in rows if row[key] is not None]
    if measured:
        axes.plot([x for x, _ in measured], [y for _, y in measured], **look)
    failed = [row["context"] for row in rows if row["status"] not in ("ok", "unsupported")]
    if failed:
        axes.plot(
            failed,
            [0.98] * len(failed),
            color=look["color"],
            marker="x",
            linestyle="none",
            markersize=8,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
