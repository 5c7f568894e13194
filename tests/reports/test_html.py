"""The HTML page: it says what the Markdown page says, stands alone, and shows what files say without obeying it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from bench.store import clock_file, manifest
from bench.store.clock_file import Clocked, ClockFile
from bench.store.result import Row
from bench.store.statuses import Status
from models.registry import load_file
from reports import html
from reports.build import build_report
from reports.parts import Bullets, Code, Heading, Part

stored = load_file(Path(__file__).with_name("stored_studies.py"))
pages = load_file(Path(__file__).with_name("read_pages.py"))
spec = stored.spec

HOSTILE = "<script>alert('&amp;')</script> \"><img src=x onerror=alert(1)> </td></table> {{ 7 * 7 }} `code`"
NAME = "<b onclick=x>&amp;\"' $^$"  # what can stand in the name of a cell, and so of its folder


def study(folder: Path) -> Path:
    """Two comparisons, one of them timed, with curves, a failed cell, a damaged file, and hostile words everywhere."""
    results = [stored.Stored(spec("transformer_xl", seed), 2.5 + seed / 100) for seed in range(3)]
    results += [
        stored.Stored(spec("expire_span", 0, NAME), 2.4),
        stored.Stored(spec("compressive", 0), None, Status.ERROR, reason=HOSTILE),
        stored.Stored(spec("transformer_xl", 0, task="corridor", task_label=f"corridor {NAME}"), 0.5),
    ]
    made = stored.study(folder, results)
    assert isinstance(made, Path)
    for result in results:
        manifest.cell_folder(made, result.spec.id).append(
            {"step": step, "metric": metric, "value": 3.0 / step, "split": "train", "seconds": 1.0}
            for step in (1, 2)
            for metric in ("loss", "reward")
        )
    rows = [Row("time_per_batch", 20.0, "ms", "train", 30, 19.0, 20.0, 21.0), Row("memory_peak", 4e6, "bytes", "train")]
    timed = [Clocked(results[0].spec.id, "code", "ok", rows=rows)]
    timed.append(
        Clocked(results[3].spec.id, "code", "error", HOSTILE, rows=[Row("time_per_batch", None, "ms", "train")])
    )
    clock_file.write(
        made, ClockFile("enwik8-4M", {}, timed, {"device": f"A device {HOSTILE}", "threads": 1}, "now", 1.0)
    )
    manifest.cell_folder(made, results[1].spec.id).result_path.write_text("{")
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[Path]]:
    """Both pages of that study, and the files written."""
    text, files = build_report(study(tmp_path_factory.mktemp("reports") / "s"))
    return text, next(path for path in files if path.name == "report.html").read_text(encoding="utf-8"), files


@pytest.fixture
def page(built: tuple[str, str, list[Path]]) -> Any:
    return pages.read(built[1])


def tables_of(markdown: str) -> list[list[list[str]]]:
    """The tables of a Markdown page, without their rules."""
    found: list[list[list[str]]] = []
    for block in markdown.split("\n\n"):
        if block.startswith("| "):
            lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
            found.append([[text.strip().replace("\\|", "|") for text in line] for line in (lines[0], *lines[2:])])
    return found


def test_its_tables_are_those_of_the_markdown_page(built: tuple[str, str, list[Path]], page: Any) -> None:
    shown = [[[text.replace("\N{NO-BREAK SPACE}", " ") for text in line] for line in table] for table in page.tables]
    assert shown == tables_of(built[0])
    assert len(shown) == 5, "one of all tasks, two of quality, one of time and memory, one of failures"


def test_it_is_well_formed_and_needs_nothing_beside_itself(page: Any) -> None:
    assert (page.wrong, page.open) == ([], [])
    assert [tag.name for tag in page.named("script", "link", "iframe", "object", "base", "form")] == []
    addresses = [
        value for tag in page.tags for name, value in tag.attributes.items() if name in ("src", "href", "srcset")
    ]
    assert addresses
    assert {address.split(",")[0] if address[0] != "#" else "#" for address in addresses} == {
        "#",
        "data:image/svg+xml;base64",
    }


def test_what_files_say_is_shown_and_never_obeyed(page: Any) -> None:
    assert not any(name.startswith("on") for tag in page.tags for name in tag.attributes)
    assert len(page.named("img")) == 3, "the figures', and none of the words'"
    failed = page.tables[-1][1:]
    assert HOSTILE in [line[-1] for line in failed]
    assert f"Expire-Span ({NAME})" in [line[0] for line in page.tables[0]], "as a label, in a table"
    assert f"A device {HOSTILE}" in page.text
    assert f"corridor {NAME}" in page.text
    assert "{{ 7 * 7 }}" in page.text
    labels = [tag.attributes["aria-label"] for tag in page.named("div")]
    assert f"corridor {NAME}" in labels


def test_figures_are_those_beside_the_page_and_say_what_they_show(
    built: tuple[str, str, list[Path]], page: Any
) -> None:
    images = page.named("img")
    drawn = [base64.b64decode(tag.attributes["src"].partition(",")[2]) for tag in images]
    assert drawn == [path.read_bytes() for path in built[2] if path.suffix == ".svg"]
    assert "Learning curves of enwik8-4M: validation bpb and training loss" in images[0].attributes["alt"]
    assert "enwik8-4M: test bpb against peak memory" in images[1].attributes["alt"]
    assert b">Transformer-XL</text>" in drawn[0], "a legend, also where nothing is validated yet"


def test_it_can_be_read_without_seeing_it(page: Any) -> None:
    (root,) = page.named("html")
    assert root.attributes["lang"] == "en"
    assert page.named("title")
    assert {tag.attributes["scope"] for tag in page.named("th")} == {"col", "row"}
    lines = sum(len(table) - 1 for table in page.tables)
    assert sum(tag.attributes["scope"] == "row" for tag in page.named("th")) == lines, "each line has its name"
    assert [tag.name for tag in page.named("h1")] == ["h1"]
    for region in page.named("div"):
        assert region.attributes["aria-label"]
        assert region.attributes["tabindex"] == "0", "the keyboard can scroll it"


def test_contents_lead_to_every_section_and_addresses_are_distinct(page: Any) -> None:
    ids = [tag.attributes["id"] for tag in page.tags if "id" in tag.attributes]
    assert len(ids) == len(set(ids))
    sections = [tag.attributes["id"] for tag in page.named("h2")]
    assert [tag.attributes["href"] for tag in page.named("a")] == [f"#{name}" for name in sections]
    assert len(sections) == 5, "all tasks, two comparisons, failures, damaged files"


def test_a_page_of_few_sections_has_no_contents(tmp_path: Path) -> None:
    folder = stored.study(tmp_path / "s", [stored.Stored(spec("transformer_xl"), 2.5)])
    build_report(folder)
    assert pages.read((folder / "report" / "report.html").read_text(encoding="utf-8")).named("nav") == []


def test_headings_of_one_text_have_addresses_of_their_own() -> None:
    parts: list[Part] = [Heading(1, "s"), Heading(2, "a (b)"), Heading(2, "A b"), Heading(2, "a-b-2"), Heading(2, "é")]
    ids = [tag.attributes["id"] for tag in pages.read(html.render(parts)).named("h2")]
    assert ids == ["a-b", "a-b-2", "a-b-2-2", "section"]


def test_code_is_marked_as_such_and_backticks_of_files_are_not() -> None:
    text = html.render([Heading(1, "s"), Bullets((("Use ", Code("--retry <all>"), "."), "it said `x`"))])
    assert "<li>Use <code>--retry &lt;all&gt;</code>.</li>" in text
    assert "<li>it said `x`</li>" in text


def test_numbers_stand_right_and_words_left(built: tuple[str, str, list[Path]]) -> None:
    assert re.search(r"th, td \{[^}]*text-align: right", built[1])
    assert re.search(r"th\.words, td\.words \{[^}]*text-align: left", built[1])
    quality, failed = built[1].split("<table>")[1], built[1].split("<table>")[-1].split("</table>")[0]
    assert '<th scope="row" class="words">Transformer-XL</th>\n<td>2.5' in quality
    assert "<td>" not in failed, "reasons are words"


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "two"):
        build_report(study(tmp_path / folder / "s"))
        made.append((tmp_path / folder / "s" / "report" / "report.html").read_bytes())
    assert made[0] == made[1]
