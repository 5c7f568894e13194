"""Time and memory against context length, from a file that ``python -m bench clock --out FILE.json`` wrote: the table.

`scaling` draws the figure beside it, `one_context` where there is but one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd

from bench.store.atomic import write_bytes
from bench.store.damaged import DamagedFile, read_json
from reports import comparison_notes, markdown, one_context, scaling
from reports.drawing import write
from reports.parts import Bullets, Figure, Heading, Part, Table
from reports.quality import BASELINE, number
from reports.statistics import FEWEST_ROUNDS, over_rounds

Row = Mapping[str, Any]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "shape": ("scope", "batch", "heads", "head_dim", "block", "layers", "precision", "threads"),
    "clock": ("rounds",),
    "provenance": ("device", "torch", "commit", "dirty"),
}
_COLUMNS = (
    *("method", "impl", "context", "alive", "status", "reason"),
    *(
        "time_ms_p50",
        "time_ms_p20",
        "time_ms_p80",
        "steps",
        "steady",
        "time_ratio",
    ),
    *("peak_bytes", "static_bytes", "state_bytes", "slots_alive", "slots_allocated"),
)
_CARD = ("title", "colour", "marker")
TIME_RATIO, MEMORY_RATIO = "time ratio", "ratio of memory over static"
TIME_TO_REFERENCE, MEMORY_TO_REFERENCE = "time to reference", "memory to reference"
TIME_TO_FIRST, MEMORY_TO_WHOLE = "time to first context", "memory to 100 % alive"


def read(path: Path) -> dict[str, Any]:
    """The content of a comparison's file, each of its rows with three ratios of memory more.

    ``memory_ratio`` is to Transformer-XL at the same context, ``memory_ratio_to_whole`` to the same method, impl and
    context at 100 % alive, ``memory_to_reference`` to the method's reference at the same context and share; None where
    either figure is missing.

    Raises FileNotFoundError, or DamagedFile where it holds something else.
    """
    content = read_json(path)
    problem = _problem(content)
    if problem:
        raise DamagedFile(path, problem)
    rows: list[Row] = content["rows"]
    absent = {"time_to_first": None, "time_to_reference": None}
    return {
        **content,
        "rows": [
            {**absent, "remembers": f"{100 * row['alive']:g} %", **row, **_memory_ratios(row, rows)} for row in rows
        ],
    }


def _problem(content: Mapping[str, Any]) -> str:
    """What the file lacks; empty where it is one of ours."""
    missing = sorted({*_NEEDED, "cards", "rows"} - set(content))
    if missing:
        return f"it lacks {', '.join(missing)}"
    for name, keys in _NEEDED.items():
        if not isinstance(content[name], dict) or set(keys) - set(content[name]):
            return f"{name} does not hold {', '.join(keys)}"
    rows, cards = content["rows"], content["cards"]
    if not isinstance(rows, list) or not rows:
        return "it has no rows"
    for row in rows:
        if not isinstance(row, dict) or set(_COLUMNS) - set(row):
            return f"a row does not hold {', '.join(_COLUMNS)}"
        card = cards.get(row["method"]) if isinstance(cards, dict) else None
        if not isinstance(card, dict) or set(_CARD) - set(card):
            return f"cards do not hold {', '.join(_CARD)} of {row['method']}"
    return ""


def baseline(row: Row, rows: list[Row]) -> Row | None:
    """The row that ratios are to: Transformer-XL's at the same context, of the same impl if there is one."""
    there = [one for one in rows if (one["method"], one["context"]) == (BASELINE, row["context"])]
    return next((one for one in there if one["impl"] == row["impl"]), there[0] if there else None)


def _memory_ratios(row: Row, rows: list[Row]) -> dict[str, float | None]:
    def like(**changed: object) -> Row | None:
        wanted = {**{key: row[key] for key in ("method", "impl", "context", "alive")}, **changed}
        return next((one for one in rows if all(one[key] == value for key, value in wanted.items())), None)

    whole = like(alive=1.0)
    return {
        "memory_to_reference": None if row["impl"] == "reference" else _ratio(row, like(impl="reference")),
        "memory_ratio": _ratio(row, baseline(row, rows)),
        "memory_ratio_to_whole": _ratio(row, whole),
    }


def _ratio(row: Row, other: Row | None) -> float | None:
    if other is None or row["peak_bytes"] is None or not other["peak_bytes"]:
        return None
    return float(row["peak_bytes"] / other["peak_bytes"])


def write_contexts(file: Path, folder: Path) -> tuple[str, list[Path]]:
    """Writes a comparison's figure, as SVG and PNG, and its table, as Markdown and CSV, into a folder.

    Returns:
        the page's text and the files, named after the comparison's.

    Raises:
        FileNotFoundError: there is no such file. DamagedFile: it holds something else.
    """
    content = read(file)
    name = f"{file.stem}-contexts"
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = write(drawing_of(content), folder, name)
    page, figures = folder / f"{name}.md", folder / f"{name}.csv"
    text = markdown.render(parts(content, file.stem, svg))
    write_bytes(page, text.encode())
    write_bytes(figures, frame(content).to_csv(index=False).encode())
    return text, [page, figures, svg, png]


def drawing_of(content: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """A comparison's figure."""
    return scaling.draw(content) if _several(content) else one_context.draw(content)


def _several(content: Mapping[str, Any]) -> bool:
    return len({row["context"] for row in content["rows"]}) > 1


def _has_baseline(content: Mapping[str, Any]) -> bool:
    return any(row["method"] == BASELINE for row in content["rows"])


def _ratios(content: Mapping[str, Any]) -> str:
    ratios = ("time_ratio", "time_to_reference", "time_to_first")
    if all(row[ratio] is None for row in content["rows"] for ratio in ratios):
        return ""
    said = f" Ratios of times are paired by round, {over_rounds([content['clock']['rounds']])}."
    return said + (" The time ratio is to Transformer-XL at the same context." if _has_baseline(content) else "")


def _between_contexts(content: Mapping[str, Any]) -> list[str]:
    rows = content["rows"]
    if all(row["time_to_first"] is None for row in rows):
        return []
    said = (
        "All contexts took turns with each other. Time to first context: to the same method and impl at the first "
        "context, with the same share, or number, of slots alive."
    )
    if any(row["method"] == "expire_span" and row["remembers"].endswith("slots") for row in rows):
        said += (
            " Expire-Span's newest block stays, alive or not, so at one number alive the slots allocated, and the cost "
            "of reading them, still grow a little."
        )
    return [said]


def parts(content: Mapping[str, Any], name: str, picture: Path, level: int = 1) -> list[Part]:
    """The page, or with a heading of another level a part of one: the table, how to read it, the figure."""
    what = scaling.WHAT[content["shape"]["scope"]]
    facts = content["provenance"]
    code = f"code {facts['commit'][:12]}" if facts["commit"] else "code of no commit"
    said = [
        f"Measured on {facts['device']}, {content['shape']['threads']} CPU thread(s): "
        f"{scaling.model(content)}; untrained weights, memory full, a share of it alive as set.",
        f"Time: {what}, median [20th, 80th percentile] of {_steps(content['rows'])}.{_ratios(content)}",
        "Memory: peak of PyTorch's allocator over what stays between steps (weights, gradients, optimiser), and ratios "
        "of that; a study's report has ratios of the whole peak.",
        "State, slots: of one layer, per stream.",
        *_between_contexts(content),
        *comparison_notes.notes(content),
        f"PyTorch {facts['torch']}, {code}{', with uncommitted changes' if facts['dirty'] else ''}.",
    ]
    against = "against context" if _several(content) else f"at a context of {content['rows'][0]['context']:,} positions"
    what_is_drawn = f"Time and peak memory over static {against}, on logarithmic axes, of {name}"
    return [
        Heading(level, f"{name}: time and memory {against}"),
        table(content),
        Bullets(tuple(said)),
        Figure(picture, what_is_drawn),
    ]


def _steps(rows: list[Row]) -> str:
    counts = [row["steps"] for row in rows if row["steps"]]
    if not counts:
        return "no step"
    return f"{min(counts)} steps" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)} steps"


def table(content: Mapping[str, Any]) -> Table:
    """The rows as they are shown."""
    rows: list[Row] = content["rows"]
    columns = {
        MEMORY_TO_WHOLE: any(row["alive"] != 1 and row["memory_ratio_to_whole"] is not None for row in rows),
        TIME_RATIO: _has_baseline(content),
        TIME_TO_REFERENCE: any(row["time_to_reference"] is not None for row in rows),
        TIME_TO_FIRST: any(row["time_to_first"] is not None for row in rows),
        MEMORY_RATIO: _has_baseline(content),
        MEMORY_TO_REFERENCE: any(row["memory_to_reference"] is not None for row in rows),
    }
    header = [
        "method",
        "impl",
        "context (positions)",
        "alive",
        "time (ms) ↓",
        TIME_RATIO,
        TIME_TO_REFERENCE,
        TIME_TO_FIRST,
        "peak memory over static (MB) ↓",
        MEMORY_RATIO,
        MEMORY_TO_WHOLE,
        MEMORY_TO_REFERENCE,
        "state (kB/stream) ↓",
        "alive / allocated (slots/stream)",
        "status",
    ]
    lines = [_line(row, rows, content["cards"], content["clock"]["rounds"]) for row in rows]
    shown = [number for number, name in enumerate(header) if columns.get(name, True)]
    table_lines = tuple(tuple(line[number] for number in shown) for line in lines)
    return Table(tuple(header[number] for number in shown), table_lines, left=(0, 1, len(shown) - 1))


def _line(row: Row, rows: list[Row], cards: Mapping[str, Row], rounds: int) -> list[str]:
    first = row is baseline(row, rows)
    bounds, to_reference, to_first = (
        (f"{ratio}_low", f"{ratio}_high") if rounds >= FEWEST_ROUNDS else ("", "")
        for ratio in ("time_ratio", "time_to_reference", "time_to_first")
    )
    return [
        cards[row["method"]]["title"],
        row["impl"],
        number(row["context"], 0),
        row["remembers"],
        _with_spread(row, "time_ms_p50", "time_ms_p20", "time_ms_p80", 1),
        "1" if first and row["time_ms_p50"] is not None else _with_spread(row, "time_ratio", *bounds, 2),
        "-" if row["impl"] == "reference" else _with_spread(row, "time_to_reference", *to_reference, 2),
        _with_spread(row, "time_to_first", *to_first, 2),
        number(None if row["peak_bytes"] is None else row["peak_bytes"] / 1e6, 1),
        number(row["memory_ratio"], 2),
        "-" if row["alive"] == 1 else number(row["memory_ratio_to_whole"], 2),
        "-" if row["impl"] == "reference" else number(row["memory_to_reference"], 2),
        number(None if row["state_bytes"] is None else row["state_bytes"] / 1e3, 1),
        f"{number(row['slots_alive'], 0)} / {number(row['slots_allocated'], 0)}",
        f"{row['status']}: {row['reason']}" if row["reason"] else row["status"],
    ]


def _with_spread(row: Row, middle: str, low: str, high: str, digits: int) -> str:
    text = number(row[middle], digits)
    if row.get(low) is None or row.get(high) is None:
        return text
    return f"{text} [{number(row[low], digits)}, {number(row[high], digits)}]"


def frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """All that the file says of each row, but for raw samples, for the CSV."""
    return pd.DataFrame(
        [{key: value for key, value in row.items() if key != "samples_ms"} for row in content["rows"]]
    ).assign(rounds=content["clock"]["rounds"], device=content["provenance"]["device"])
