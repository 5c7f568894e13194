"""The efficiency table: measured beside published, and what is missing stays missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.store import clock_file
from bench.store.clock_file import Clocked, ClockFile
from bench.store.fingerprint import clock_fingerprint
from bench.store.result import Row
from models.registry import load_file
from reports import published
from reports.build import build_report

stored = load_file(Path(__file__).with_name("stored_studies.py"))
FACTS = {"device": "A device", "threads": 1, "torch": "2"}


def clocked(method: str, time: float | None, peak: float | None, ratio: float | None = None, **more: Any) -> Clocked:
    """What the clock has measured of a method's cell, with today's code where `more` has no ``code``."""
    spec = stored.spec(method, more.pop("seed", 0), more.pop("variant", ""))
    code = more.pop("code", clock_fingerprint(spec.to_json()))
    how, rounds = more.pop("how", None), more.pop("rounds", 10)
    rows = [
        Row("time_per_batch", time, "ms", "train", 30 if time else None, time and time - 1, time, time and time + 1)
        if how is None
        else Row("time_per_batch", time, "ms", "train", 30, context=how),
        Row("memory_peak", peak, "bytes", "train"),
        Row("memory_extra", peak and peak / 2, "bytes", "train"),
        Row("memory_peak", peak and peak / 4, "bytes", "validation"),
    ]
    if ratio is not None:
        context = {"low": ratio - 0.05, "high": ratio + 0.05}
        rows.append(Row("time_to_transformer_xl", ratio, "ratio", "train", rounds, context=more.pop("bounds", context)))
    rows += more.pop("rows", [])
    return Clocked(spec.id, code, **{"status": "ok", **more}, rows=rows)


def report(folder: Path, methods: list[str], measured: list[Clocked]) -> tuple[str, pd.DataFrame]:
    """The page's part on time and memory, and efficiency.csv."""
    stored.study(folder, [stored.Stored(stored.spec(method), 2.5) for method in methods])
    if measured:
        clock_file.write(folder, ClockFile("enwik8-4M", {}, measured, FACTS, "now", 1.0))
    return stored.page_of(folder).partition("time and memory")[2], stored.efficiency_of(folder)


def cells_of(text: str, label: str) -> dict[str, str]:
    """A line of the table by its header."""
    header, line = (
        next(line for line in text.splitlines() if line.startswith(f"| {name} ")) for name in ("method", label)
    )
    names, values = ([word.strip() for word in row.strip("|").split("|")] for row in (header, line))
    return dict(zip(names, values, strict=True))


def test_a_trainings_minutes_are_its_steps_times_the_time_of_one(tmp_path: Path) -> None:
    measured = [clocked("transformer_xl", 30_000.0, 4e6), clocked("expire_span", None, None)]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span"], measured)
    assert [cells_of(text, name)["all steps (min) ↓"] for name in ("Transformer-XL", "Expire-Span")] == ["5.0", "-"]
    minutes = frame.set_index("label")["training_minutes"]
    assert minutes["Transformer-XL"] == pytest.approx(5.0), "10 steps"
    assert pd.isna(minutes["Expire-Span"])


def test_ratios_stand_beside_those_that_were_published(tmp_path: Path) -> None:
    overhead = Row("trainer_overhead", 0.012, "share", "train", 10, context={"low": 0.01, "high": 0.015})
    measured = [
        clocked("transformer_xl", 20.0, 4e6, rows=[overhead]),
        clocked("expire_span", 10.0, 3e6, 0.5),
        clocked("full_attention", 30.0, 8e6, 1.5),
    ]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span", "full_attention"], measured)
    xl, expire, full = (cells_of(text, name) for name in ("Transformer-XL", "Expire-Span", "Full attention"))
    assert xl["time per batch (ms) ↓"] == "20.0 [19.0, 21.0]"
    assert (xl["time ratio"], xl["memory ratio"]) == ("1", "1.00")
    assert expire["time ratio"] == "0.50 [0.45, 0.55]"
    assert (expire["peak memory (MB) ↓"], expire["memory ratio"]) == ("3.0", "0.75")
    assert expire["evaluation memory (MB) ↓"] == "0.8"
    assert (expire["published time ratio"], expire["published memory ratio"]) == ("0.63", "0.56")  # 408/649, 15/27
    assert (full["published time ratio"], full["published memory ratio"]) == ("-", "-")
    assert full["time ratio"] == "1.50 [1.45, 1.55]"
    assert "Measured on A device, 1 CPU thread(s)" in text
    assert "of 30 steps" in text
    assert "Lightning's Trainer adds 1.2 % [1.0, 1.5] to Transformer-XL's step and its input." in text
    assert "Published ratios: Sukhbaatar et al. 2021 table 4; hardware unknown" in text
    rows = frame.set_index("method")
    assert rows.loc["expire_span", "time_ratio"] == 0.5
    assert rows.loc["expire_span", "time_ratio_published"] == pytest.approx(408 / 649)
    assert rows.loc["expire_span", "memory_extra_bytes"] == 1.5e6
    assert rows.loc["expire_span", "time_steps"] == 30
    assert rows["status"].isna().all()


def test_an_overhead_that_may_be_none_is_called_noise(tmp_path: Path) -> None:
    overhead = Row("trainer_overhead", -0.023, "share", "train", 10, context={"low": -0.067, "high": 0.075})
    text, _ = report(tmp_path / "s", ["transformer_xl"], [clocked("transformer_xl", 20.0, 4e6, rows=[overhead])])
    assert "adds -2.3 % [-6.7, 7.5] to Transformer-XL's step and its input: no more than noise." in text


@pytest.mark.parametrize("bounds", [{"low": 0.4, "high": 0.6}, {"low": None, "high": None}, {}])
def test_below_six_rounds_there_is_a_ratio_without_an_interval(tmp_path: Path, bounds: dict[str, Any]) -> None:
    overhead = Row("trainer_overhead", 0.012, "share", "train", 5, context={"low": 0.01, "high": 0.015})
    measured = [
        clocked("transformer_xl", 20.0, 4e6, rows=[overhead]),
        clocked("expire_span", 10.0, 3e6, 0.5, rounds=5, bounds=bounds),
        clocked("full_attention", 30.0, 8e6, 1.5, rounds=6),
    ]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span", "full_attention"], measured)
    assert cells_of(text, "Expire-Span")["time ratio"] == "0.50"
    assert cells_of(text, "Full attention")["time ratio"] == "1.50 [1.45, 1.55]"
    assert "median [95 % bootstrap interval] over 5 to 6 rounds. Below 6 rounds there is no interval" in text
    assert "Trainer adds 1.2 % to Transformer-XL's step" in text
    rows = frame.set_index("method")
    assert rows["time_ratio_low"].isna().to_dict() == {"transformer_xl": True, "expire_span": True, "full_attention": 0}
    assert rows.loc["expire_span", "rounds"] == 5


def test_whose_times_need_care_and_which_seeds_model_was_timed_is_said(tmp_path: Path) -> None:
    shaky = {"steady": False, "memory_steady": False, "rebuilt_each_round": True}
    measured = [
        clocked("transformer_xl", 20.0, 4e6, how={"steady": True, "rebuilt_each_round": False}),
        clocked("expire_span", 10.0, 3e6, 0.5, how=shaky),
    ]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span"], measured)
    assert "- Step times still changed by a tenth when timing began: Expire-Span.\n" in text
    assert "- Held more or less memory when timing ended than when it began: Expire-Span.\n" in text
    assert "- Built anew for each turn, because not all fit on the device together: Expire-Span." in text
    assert "- Time and memory are of one model per method (of seed 0); scores are means over seeds.\n" in text
    rows = frame.set_index("method")
    assert rows["steady"].to_dict() == {"transformer_xl": True, "expire_span": False}
    assert rows["rebuilt_each_round"].to_dict() == {"transformer_xl": False, "expire_span": True}
    assert set(rows["seed"]) == {0}


def test_models_of_different_seeds_are_each_named(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    seeds = {"transformer_xl": 0, "expire_span": 1}
    stored.study(folder, [stored.Stored(stored.spec(method, seed), 2.5) for method, seed in seeds.items()])
    measured = [clocked(method, 20.0, 4e6, seed=seed) for method, seed in seeds.items()]
    clock_file.write(folder, ClockFile("enwik8-4M", {}, measured, FACTS, "now", 1.0))
    text = stored.page_of(folder)
    assert "one model per method (Transformer-XL: seed 0; Expire-Span: seed 1); scores" in text


def test_a_variant_of_the_baseline_is_no_baseline(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    cells = [stored.spec("transformer_xl", variant="positions=sinusoidal"), stored.spec("expire_span")]
    stored.study(folder, [stored.Stored(cell, 2.5) for cell in cells])
    measured = [clocked("transformer_xl", 20.0, 4e6, variant="positions=sinusoidal"), clocked("expire_span", 10.0, 3e6)]
    clock_file.write(folder, ClockFile("enwik8-4M", {}, measured, FACTS, "now", 1.0))
    text = stored.page_of(folder)
    assert "difference to" not in text
    timed = text.partition("time and memory")[2]
    assert cells_of(timed, "Expire-Span")["memory ratio"] == "-"
    assert "Ratios to Transformer-XL" not in timed


def test_with_several_baselines_quality_and_memory_have_the_same_one(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    cells = [(stored.spec("transformer_xl", rate=rate), score) for rate, score in ((1e-3, 2.6), (2e-3, 2.5))]
    cells.append((stored.spec("expire_span"), 2.4))
    stored.study(folder, [stored.Stored(cell, score) for cell, score in cells])
    peaks = [Clocked(cell.id, "code", "ok", rows=[Row("memory_peak", peak, "bytes", "train")]) for (cell, _), peak in
             zip(cells, (4e6, 8e6, 2e6), strict=True)]  # fmt: skip
    clock_file.write(folder, ClockFile("enwik8-4M", {}, peaks, FACTS, "now", 1.0))
    text = stored.page_of(folder)
    assert "difference to Transformer-XL [train.learning_rate=0.001]" in text
    assert cells_of(text.partition("time and memory")[2], "Expire-Span")["memory ratio"] == "0.50"


def test_what_was_not_measured_is_missing_with_its_reason(tmp_path: Path) -> None:
    lost = clocked("expire_span", None, None, status="oom", reason="out of memory")
    measured = [clocked("transformer_xl", 20.0, 4e6), lost]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span", "full_attention"], measured)
    expire, full = (cells_of(text, name) for name in ("Expire-Span", "Full attention"))
    for line in (expire, full):
        for name in ("time per batch (ms) ↓", "time ratio", "peak memory (MB) ↓", "memory ratio"):
            assert line[name] == "-"
    assert expire["published time ratio"] == "0.63"
    assert "- Expire-Span: oom: out of memory." in text
    assert "- Full attention: not measured." in text
    rows = frame.set_index("method")
    assert rows.loc["expire_span", ["time_ms_p50", "memory_peak_bytes", "memory_ratio"]].isna().all()
    assert list(rows["status"].fillna("")) == ["", "oom: out of memory", "not measured"]


def test_a_cell_that_the_clock_could_not_measure_keeps_its_result(tmp_path: Path) -> None:
    lost = clocked("transformer_xl", None, None, status="error", reason="it broke")
    text, _ = report(tmp_path / "s", ["transformer_xl"], [lost])
    page = stored.page_of(tmp_path / "s")
    assert "Transformer-XL: error: it broke" in text
    assert "Cells without a result" not in page
    assert "1 of 1" in page


def test_what_other_code_has_measured_is_marked(tmp_path: Path) -> None:
    measured = [clocked("transformer_xl", 20.0, 4e6), clocked("expire_span", 10.0, 3e6, 0.5, code="another")]
    text, frame = report(tmp_path / "s", ["transformer_xl", "expire_span"], measured)
    assert cells_of(text, "Transformer-XL")
    assert cells_of(text, "Expire-Span (stale)")["time per batch (ms) ↓"] == "10.0 [9.0, 11.0]"
    assert "Stale: time and memory were measured by other code than today's" in text
    assert "(stale)" not in stored.page_of(tmp_path / "s").partition("time and memory")[0]
    assert list(frame.set_index("method")["stale"]) == [False, True]


def test_without_a_baseline_there_are_figures_and_no_ratios(tmp_path: Path) -> None:
    text, frame = report(tmp_path / "s", ["expire_span"], [clocked("expire_span", 10.0, 3e6)])
    line = cells_of(text, "Expire-Span")
    assert line["time per batch (ms) ↓"] == "10.0 [9.0, 11.0]"
    assert (line["time ratio"], line["memory ratio"]) == ("-", "-")
    assert frame["memory_ratio"].isna().all()


def test_a_study_without_a_clock_has_no_such_table(tmp_path: Path) -> None:
    text, frame = report(tmp_path / "s", ["transformer_xl"], [])
    assert text == ""
    assert frame.empty


def test_a_report_has_the_table_and_its_csv(tmp_path: Path) -> None:
    text, frame = report(tmp_path / "s", ["transformer_xl"], [clocked("transformer_xl", 20.0, 4e6)])
    whole, files = build_report(tmp_path / "s")
    line = next(line for line in text.splitlines() if line.startswith("| Transformer-XL "))
    assert line in whole.partition("time and memory")[2]
    written = next(path for path in files if path.name == "efficiency.csv")
    pd.testing.assert_frame_equal(pd.read_csv(written), frame)


def test_a_damaged_clock_file_is_named(tmp_path: Path) -> None:
    report(tmp_path / "s", ["transformer_xl"], [clocked("transformer_xl", 20.0, 4e6)])
    clock_file.path_of(tmp_path / "s", "enwik8-4M").write_text("{")
    text = stored.page_of(tmp_path / "s")
    assert "## Damaged files" in text
    assert "enwik8-4M.json is damaged" in text
    assert "time and memory" not in text


def test_published_ratios_are_of_one_source_and_task() -> None:
    xl = "transformer_xl"
    assert published.ratio("enwik8", "compressive", "time_per_batch", xl) == pytest.approx(838 / 649)
    assert published.ratio("enwik8", "adaptive_span", "gpu_memory", xl) == pytest.approx(20 / 27)
    assert published.ratio("enwik8", xl, "gpu_memory", xl) == 1
    assert published.ratio("enwik8", "full_attention", "gpu_memory", xl) is None
    assert published.ratio("object_collision", "expire_span", "gpu_memory", xl) is None, "theirs has no baseline"
    assert published.sources("enwik8") == ["Sukhbaatar et al. 2021 table 4"]


def test_published_figures_are_the_specifications(checkout: Path) -> None:
    frame = published.figures()
    assert not frame[["task", "method", "metric", "value", "unit", "setting", "source"]].isna().any().any()
    assert not frame.duplicated(["task", "method", "metric", "split", "setting"]).any()


def test_of_agents_it_says_that_a_step_is_an_episode_and_memory_begins_empty(tmp_path: Path) -> None:
    spec = stored.spec("transformer_xl", task="corridor")
    stored.study(tmp_path / "s", [stored.Stored(spec, 50.0)])
    rows = [Row("time_per_batch", 20.0, "ms", "train", 30), Row("memory_peak", 4e6, "bytes", "train")]
    code = clock_fingerprint(spec.to_json())
    clock_file.write(
        tmp_path / "s", ClockFile("corridor", {}, [Clocked(spec.id, code, "ok", rows=rows)], FACTS, "now", 1)
    )
    text = stored.page_of(tmp_path / "s")
    assert "with memory empty where an episode begins, all episodes until the horizon" in text
    assert "one training step (an episode of every world and learning from it in blocks: forward, backward" in text
    assert "Evaluation: over an episode of every world, acting alone." in text
    assert "with memory full" not in text
