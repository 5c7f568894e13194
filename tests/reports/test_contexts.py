"""`python -m reports contexts`: what it makes of a comparison of the clock's, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from bench.store.statuses import Status
from models.registry import load_file
from reports import contexts, markdown, scaling
from reports.__main__ import main
from reports.build import build_report, draw_figures
from reports.contexts import parts, read

stored = load_file(Path(__file__).with_name("stored_studies.py"))

CARDS = {
    "transformer_xl": {"title": "Transformer-XL", "colour": "#0072B2", "marker": "s"},
    "expire_span": {"title": "Expire-Span", "colour": "#D55E00", "marker": "P"},
    "compressive": {"title": "Compressive Transformer", "colour": "#CC79A7", "marker": "D"},
}
SHAPE = {
    **{"scope": "step", "batch": 4, "heads": 2, "head_dim": 32, "block": 64, "layers": 3},
    **{"precision": "32-true", "threads": 1, "accelerator": "auto"},
}


def row(
    method: str, context: int, time: float | None, peak: int | None, alive: float = 1.0, **more: Any
) -> dict[str, Any]:
    ratio = None if method == "transformer_xl" or time is None else time / 10
    return {
        **{"method": method, "impl": "reference", "context": context, "alive": alive, "steps": 30, "steady": True},
        **{"time_ms_p50": time, "time_ms_p20": time and time - 1, "time_ms_p80": time and time + 2},
        **{"time_ratio": ratio, "time_ratio_low": ratio and ratio - 0.05, "time_ratio_high": ratio and ratio + 0.05},
        **{"peak_bytes": peak, "static_bytes": 10**6, "state_bytes": peak and 16384.0},
        **{"slots_alive": peak and alive * context, "slots_allocated": peak and float(context)},
        **{"status": "ok", "reason": "", "samples_ms": [[1.0, 2.0], None], **more},
    }


ROWS = [
    row("transformer_xl", 64, 10.0, 4_000_000),
    row("expire_span", 64, 12.0, 6_000_000),
    row("expire_span", 64, 8.0, 3_000_000, 0.5),
    row("transformer_xl", 1024, 20.0, 8_000_000),
    row("expire_span", 1024, None, None, status="oom", reason="out of memory"),
    row("expire_span", 1024, 16.0, 5_000_000, 0.5, steps=12, steady=False, memory_steady=False),
    row("compressive", 1024, None, None, status="unsupported", reason="no room"),
]


def kept(folder: Path, rows: list[dict[str, Any]] = ROWS, **changes: Any) -> Path:
    """A file as `bench clock --out` writes it."""
    facts = {"device": "A device", "torch": "2", "commit": "0123456789abcdef", "dirty": False}
    content = {"shape": SHAPE, "clock": {"rounds": 7}, "provenance": facts, "cards": CARDS, "rows": rows, **changes}
    path = folder / "mine.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def text_of(file: Path) -> str:
    """The page that `reports contexts` writes and prints, without its figure: most of the time is the figure's."""
    return markdown.render(parts(read(file), file.stem, file.with_suffix(".svg")))


def lines_of(text: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """The table by method, context and share."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]
    return {(line["method"], line["context (positions)"], line["alive"]): line for line in found}


def test_a_fast_impl_stands_beside_its_reference(tmp_path: Path) -> None:
    bounds = {"time_to_reference": 0.4, "time_to_reference_low": 0.3, "time_to_reference_high": 0.5}
    fast = [
        row("transformer_xl", 64, 4.0, 1_000_000, impl="fast", **bounds),
        row("expire_span", 64, 6.0, 3_000_000, impl="fast", **bounds),
    ]
    text = text_of(kept(tmp_path, [*ROWS[:2], *fast]))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    (one,) = (dict(zip(table[0], line, strict=True)) for line in table if line[:2] == ["Expire-Span", "fast"])
    assert (one["time to reference"], one["memory to reference"]) == ("0.40 [0.30, 0.50]", "0.50")
    assert one["ratio of memory over static"] == "3.00", "to the fast Transformer-XL"


def test_contexts_that_took_turns_have_ratios_between_them(tmp_path: Path) -> None:
    bounds = {"time_to_first": 1.1, "time_to_first_low": 1.0, "time_to_first_high": 1.3}
    remembers = {"remembers": "32 slots"}
    rows = [
        row("expire_span", 64, 6.0, 3_000_000, 0.5, **remembers),
        row("expire_span", 128, 6.6, 3_000_000, 0.25, **remembers, **bounds),
        row("expire_span", 128, 8.6, 5_000_000, 0.5, remembers="50 %"),
    ]
    file = kept(tmp_path, rows, clock={"rounds": 7, "together": True})
    text = text_of(file)
    labels = scaling.draw(read(file)).axes[0].get_legend_handles_labels()[1]
    assert labels == ["Expire-Span, 32 slots alive", "Expire-Span, 50 % alive"], "one line for 32 slots, not two points"
    lines = lines_of(text)
    column = "time to first context"
    assert lines["Expire-Span", "64", "32 slots"][column] == "-"
    assert lines["Expire-Span", "128", "32 slots"][column] == "1.10 [1.00, 1.30]"
    assert "All contexts took turns" in text
    assert "Expire-Span's newest block stays" in text
    for word in ("time ratio", "Transformer-XL", "memory to 100 % alive"):
        assert word not in text, "nothing of rows that are not there"
    for others in (ROWS, [rows[0]]):
        text = text_of(kept(tmp_path, others, clock={"rounds": 7, "together": True}))
        assert column not in text
        assert "took turns" not in text


def test_the_table_shows_time_memory_and_their_ratios_at_the_same_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["contexts", str(kept(tmp_path))]) == 0
    printed, _, last = capsys.readouterr().out.rstrip().rpartition("\n")
    names = [f"mine-contexts.{kind}" for kind in ("md", "csv", "svg", "png")]
    assert json.loads(last) == {"comparison": "mine", "files": [str(tmp_path / name) for name in names]}
    assert all((tmp_path / name).stat().st_size for name in names)
    assert printed.strip() == (tmp_path / "mine-contexts.md").read_text(encoding="utf-8").strip()
    lines = lines_of(printed)
    assert len(lines) == len(ROWS)
    half = lines["Expire-Span", "64", "50 %"]
    assert half["time (ms) ↓"] == "8.0 [7.0, 10.0]"
    assert half["time ratio"] == "0.80 [0.75, 0.85]"
    assert half["peak memory over static (MB) ↓"] == "3.0"
    assert (half["ratio of memory over static"], half["memory to 100 % alive"]) == ("0.75", "0.50")
    assert half["state (kB/stream) ↓"] == "16.4"
    assert half["alive / allocated (slots/stream)"] == "32 / 64"
    xl = lines["Transformer-XL", "1,024", "100 %"]
    assert (xl["time ratio"], xl["ratio of memory over static"], xl["memory to 100 % alive"]) == ("1", "1.00", "-")
    late = lines["Expire-Span", "1,024", "50 %"]
    assert late["ratio of memory over static"] == "0.62", "to Transformer-XL at 1,024, not at 64"
    assert late["memory to 100 % alive"] == "-", "which ran out of memory"
    assert "A device, 1 CPU thread(s): 3 layers, 2 heads of 32, blocks of 64 tokens, 4 rows, 32-true" in printed
    assert "over 7 rounds" in printed
    assert "percentile] of 12 to 30 steps" in printed
    for said in ("Step times still changed by a tenth when timing began", "Held more or less memory when timing ended"):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"- {said}")]
        assert line.endswith(": Expire-Span (50 % alive) at 1,024.")
    assert "code 0123456789ab." in printed


def test_what_holds_of_all_rows_names_none(tmp_path: Path) -> None:
    rows = [row("expire_span", context, 6.0, 3_000_000, steady=False) for context in (64, 128)]
    text = text_of(kept(tmp_path, rows))
    assert "- Step times still changed by a tenth when timing began: all of them.\n" in text


def test_what_failed_is_a_line_without_numbers_and_with_its_reason(tmp_path: Path) -> None:
    lines = lines_of(text_of(kept(tmp_path)))
    lost, never = lines["Expire-Span", "1,024", "100 %"], lines["Compressive Transformer", "1,024", "100 %"]
    assert (lost["status"], never["status"]) == ("oom: out of memory", "unsupported: no room")
    for line in (lost, never):
        shown = [
            line[name] for name in line if name not in ("method", "impl", "context (positions)", "alive", "status")
        ]
        assert set(shown) == {"-", "- / -"}, "missing, not 0"


def test_the_csv_holds_every_row_without_raw_samples(tmp_path: Path) -> None:
    assert main(["contexts", str(kept(tmp_path)), "--out", str(tmp_path / "new" / "folder"), "--quiet"]) == 0
    frame = pd.read_csv(tmp_path / "new" / "folder" / "mine-contexts.csv")
    assert len(frame) == len(ROWS)
    assert "samples_ms" not in frame.columns
    assert set(ROWS[0]) - {"samples_ms"} < set(frame.columns)
    half = frame[(frame["method"] == "expire_span") & (frame["alive"] == 0.5)]
    assert list(half["memory_ratio"]) == [0.75, 0.625]
    assert half["memory_ratio_to_whole"].iloc[0] == 0.5
    assert half["memory_ratio_to_whole"].isna().iloc[1]


@pytest.mark.parametrize("bounds", [{}, {"time_ratio_low": None, "time_ratio_high": None}, None])
def test_below_six_rounds_a_ratio_has_no_interval(tmp_path: Path, bounds: dict[str, None] | None) -> None:
    rows = [dict(one) for one in ROWS[:2]]
    for one in rows if bounds is not None else []:
        del one["time_ratio_low"], one["time_ratio_high"]
        one |= bounds or {}
    printed = text_of(kept(tmp_path, rows, clock={"rounds": 4}))
    assert lines_of(printed)["Expire-Span", "64", "100 %"]["time ratio"] == "1.20"
    assert "paired by round, median over 4 rounds. Below 6 rounds there is no interval" in printed


NOTES = (
    "A share alive is the best case",
    "Expire-Span keeps its newest block",
    "older ones pooled",
    "Full attention sees",
)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS, NOTES[:2]),
        ([row("transformer_xl", 64, 10.0, 4_000_000), row("expire_span", 64, 10.0, 4_000_000)], ()),
        ([row("compressive", 2048, 10.0, 4_000_000, slots_alive=1280.0)], NOTES[2:3]),
        ([row("full_attention", 64, 10.0, 4_000_000)], NOTES[3:]),
        ([row("expire_span", 64, None, None, 0.5, status="oom")], ()),
    ],
)
def test_what_a_row_can_mislead_to_is_said_where_there_is_such_a_row(
    tmp_path: Path, rows: list[dict[str, Any]], said: tuple[str, ...]
) -> None:
    cards = {**CARDS, "full_attention": {"title": "Full attention", "colour": "#000000", "marker": "o"}}
    text = text_of(kept(tmp_path, rows, cards=cards))
    assert [note for note in NOTES if note in text] == list(said)
    assert ("1,280 slots for 2,048 positions" in text) == (rows[0]["method"] == "compressive")


def test_what_was_built_anew_for_each_turn_is_named(tmp_path: Path) -> None:
    rows = [row("transformer_xl", 64, 10.0, 10**6), row("expire_span", 64, 12.0, 10**6, rebuilt=True)]
    text = text_of(kept(tmp_path, rows))
    assert "not all fit on the device together: Expire-Span (100 % alive) at 64." in text


def test_without_shares_there_is_no_column_for_them(tmp_path: Path) -> None:
    path = kept(tmp_path, [one for one in ROWS if one["alive"] == 1])
    assert "100 % alive |" not in text_of(path)


def points(line: Line2D) -> list[list[float]]:
    """Where a line's points stand, [x, y] each."""
    found = np.asarray(line.get_xydata(), dtype=float).tolist()
    assert isinstance(found, list)
    return found


def test_lines_are_drawn_as_measured_and_tell_shares_apart_without_colour(tmp_path: Path) -> None:
    left, right = scaling.draw(read(kept(tmp_path))).axes
    lines = {str(line.get_label()): line for line in right.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"Transformer-XL", "Expire-Span, 100 % alive", "Expire-Span, 50 % alive"}, "nobody unsupported"
    half, whole = lines["Expire-Span, 50 % alive"], lines["Expire-Span, 100 % alive"]
    assert points(half) == [[64, 3], [1024, 5]]
    assert points(whole) == [[64, 6]]
    assert half.get_linestyle() != whole.get_linestyle()
    assert half.get_markerfacecolor() != whole.get_markerfacecolor()
    assert (left.get_xscale(), left.get_yscale(), right.get_yscale()) == ("log", "log", "log")
    assert [axes.get_ylabel() for axes in (left, right)] == [
        "time (ms), lower is better",
        "memory (MB), lower is better",
    ]
    assert [axes.get_xlabel() for axes in (left, right)] == ["context (positions)"] * 2


def test_a_failure_is_a_cross_of_its_own_above_all_lines(tmp_path: Path) -> None:
    rows = [dict(one) for one in ROWS]
    rows[3] |= {"peak_bytes": None, "status": "oom"}  # of which only memory could not be had
    left, right = scaling.draw(read(kept(tmp_path, rows))).axes
    said = {axes: [text.get_text() for text in axes.texts] for axes in (left, right)}
    assert said[left] == ["Expire-Span, 100 % alive: oom"]
    assert said[right] == ["Transformer-XL: oom", "Expire-Span, 100 % alive: oom"]
    for axes in (left, right):
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert [points(line)[0][0] for line in crosses] == [1024] * len(said[axes])
        heights = [points(line)[0][1] for line in crosses]
        assert len(set(heights)) == len(heights), "none hides another"
        drawn = max(y for line in axes.lines if line not in crosses for _, y in points(line))
        within = axes.transAxes.inverted().transform(axes.transData.transform((64, drawn)))[1]
        assert within < min(heights) - 0.02


def test_one_context_has_a_line_across_for_each_entry(tmp_path: Path) -> None:
    rows = [dict(one) for one in ROWS if one["context"] == 64]
    rows[0] |= {"peak_bytes": None, "status": "oom"}
    drawn = contexts.drawing_of(read(kept(tmp_path, rows)))
    left, right = drawn.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert len(set(labels)) == len(rows)
    assert (left.get_xlabel(), right.get_xlabel()) == ("time (ms), lower is better", "memory (MB), lower is better")
    for axes, key, unit in ((left, "time_ms_p50", 1), (right, "peak_bytes", 1e6)):
        found = {place: x for line in axes.lines for x, place in points(line)}
        assert found == {place: row[key] / unit for place, row in enumerate(rows) if row[key] is not None}
    assert [text.get_text() for text in right.texts] == ["oom"]
    assert "context 64" in str(drawn.get_suptitle())


def test_values_that_lie_close_together_have_ticks(tmp_path: Path) -> None:
    rows = [row("transformer_xl", context, 21.0 + index, 10**7) for index, context in enumerate((64, 128))]
    for axes in scaling.draw(read(kept(tmp_path, rows))).axes:
        low, high = axes.get_ylim()
        assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2
        assert high / low >= 3.99, "what is all but level does not look steep"


def test_a_file_of_failures_alone_is_drawn_too(tmp_path: Path) -> None:
    rows = [row("expire_span", context, None, None, status="timeout") for context in (64, 128)]
    assert main(["contexts", str(kept(tmp_path, rows)), "--quiet"]) == 0
    assert "Expire-Span: timeout" in (tmp_path / "mine-contexts.svg").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = kept(tmp_path)
    for name in ("one", "two"):
        assert main(["contexts", str(path), "--out", str(tmp_path / name), "--quiet"]) == 0
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is empty"),
        ("[]", "it does not hold a JSON object"),
        ('{"device": "x", "rows": []}', "it lacks cards, clock, provenance, shape"),
        ({"rows": []}, "it has no rows"),
        ({"rows": [{"method": "expire_span"}]}, "a row does not hold method, impl"),
        ({"shape": {}}, "shape does not hold scope"),
        ({"cards": {"expire_span": {}}}, "cards do not hold title, colour, marker of transformer_xl"),
    ],
)
def test_a_foreign_file_is_refused_with_what_is_wrong_and_what_to_do(
    tmp_path: Path, content: str | dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path, **({} if isinstance(content, str) else content))
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    assert main(["contexts", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"reports: {path} is no comparison of the clock's: {why}")
    assert said.err.endswith("`python -m bench clock --contexts 512,2048 --out FILE.json` writes one.\n")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.json"]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contexts", str(tmp_path / "none.json")]) == 2
    assert re.match(r"reports: there is no file .*none\.json\. `python -m bench clock", capsys.readouterr().err)
    assert main(["contexts", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"reports: {tmp_path}: Is a directory.\n"


@pytest.mark.slow
def test_comparisons_in_a_studys_folder_are_parts_of_its_report(tmp_path: Path) -> None:
    cell = stored.spec("transformer_xl", 0)
    study = stored.study(tmp_path / "s", [stored.Stored(cell, 2.5, Status.OK, {"parameters": 1000.0})])
    (study / "contexts").mkdir()
    kept(study / "contexts")
    (study / "contexts" / "other.json").write_text("{}", encoding="utf-8")
    text, files = build_report(study)
    assert "## mine: time and memory against context" in text
    assert "(mine-contexts.svg)" in text
    assert "contexts/other.json is damaged: it lacks" in text
    assert {"mine-contexts.svg", "mine-contexts.png"} <= {path.name for path in files if path.stat().st_size}
    assert "mine: time and memory against context" in (study / "report" / "report.html").read_text(encoding="utf-8")
    drawn = {path.name for path in draw_figures(study)}
    assert {"mine-contexts.svg", "mine-contexts.png"} <= drawn
