"""Every figure of the tables, against values computed here: one study in which each of them is another number."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bench.store.fingerprint import cell_fingerprint
from models.registry import load_file
from reports.build import build_report

stored = load_file(Path(__file__).with_name("stored_studies.py"))

# Test scores for seeds 0, 1, 2. In bits per byte Adaptive-Span is best, by success Transformer-XL.
BPB = {
    "transformer_xl": (2.50, 2.52, 2.53),
    "adaptive_span": (2.40, 2.43, 2.42),
    "expire_span": (2.46, 2.47, 2.51),
    "compressive": (2.51, 2.55, 2.52),
}
SUCCESS = {"transformer_xl": (0.9, 0.8, 0.7), "expire_span": (0.5, 0.4, 0.6)}
FIGURES = {
    "slots_alive": 12.5,
    "slots_allocated": 64.0,
    "state_bytes": 16384.0,
    "mean_span": 7.25,
    "mean_age": 31.5,
    "flops_per_token": 123_400.0,
    "parameters": 1000.0,
}
TITLES = {name: card["title"] for name, card in stored.CARDS["methods"].items()}


def p_values() -> dict[str, float]:
    """The paired t-tests' p values against Transformer-XL, times 3, 2 and 1 in rising order, never falling (Holm)."""
    raw = {
        name: float(stats.ttest_rel(BPB[name], BPB["transformer_xl"]).pvalue)
        for name in BPB
        if name != "transformer_xl"
    }
    first, second, third = sorted(raw, key=lambda name: raw[name])
    corrected = {first: 3 * raw[first]}
    corrected[second] = max(corrected[first], 2 * raw[second])
    corrected[third] = max(corrected[second], raw[third])
    return corrected


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with its report: all of the above, one method with one seed, cells of two presets, one stale result."""
    today = cell_fingerprint({"task": "enwik8", "method": "full_attention"})
    results = []
    for name, scores in BPB.items():
        for seed, score in enumerate(scores):
            how = {"preset": "small", "threads": 2, "time_limit_s": 9.0} if seed == 1 else {"preset": "quick"}
            results.append(stored.Stored(stored.spec(name, seed, **how), score, figures=FIGURES))
    for variant, score, fingerprint in (("memory=none", 2.9, "of other code"), ("memory=all", 2.8, today)):
        cell = stored.spec("full_attention", 0, variant)
        results.append(stored.Stored(cell, score, figures=FIGURES, fingerprint=fingerprint))
    for name, scores in SUCCESS.items():
        results += [stored.Stored(stored.spec(name, seed, task="corridor"), score) for seed, score in enumerate(scores)]
    folder = stored.study(tmp_path_factory.mktemp("reports") / "s", results)
    build_report(folder)
    assert isinstance(folder, Path)
    return folder


@pytest.fixture
def page(study: Path) -> str:
    return (study / "report" / "report.md").read_text(encoding="utf-8")


def methods(part: str) -> list[str]:
    """The labels of a table's lines, in order."""
    return [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")][2:]


def test_columns_name_their_units(page: str) -> None:
    assert stored.line_of(stored.section(page, "enwik8-4M"), "method") == [
        "method",
        "test bpb (bits/byte) ↓",
        "difference to Transformer-XL (bits/byte)",
        "seeds",
        "alive / allocated (slots/stream)",
        "state (kB/stream)",
        "mean span (tokens)",
        "mean age (tokens)",
        "cost (kFLOP/token)",
        "parameters",
    ]
    assert stored.line_of(stored.section(page, "corridor"), "method")[1:3] == [
        "test success (%) ↑",
        "difference to Transformer-XL (points)",
    ]


def test_p_values_are_holms(study: Path, page: str) -> None:
    part, frame = stored.section(page, "enwik8-4M"), pd.read_csv(study / "report" / "quality.csv")
    expected = p_values()
    assert len({round(value, 3) for value in expected.values()}) == 3, "each is to be another number"
    for name, p in expected.items():
        assert stored.line_of(part, TITLES[name])[2].endswith(f"(p {p:.3f})")
        found = frame[(frame["method"] == name) & (frame["task"] == "enwik8-4M")]["difference_p_holm"]
        assert list(found) == [pytest.approx(p)]
    raw = stats.ttest_rel(BPB["adaptive_span"], BPB["transformer_xl"]).pvalue
    assert expected["adaptive_span"] > 1.9 * raw, "the correction is to show"


def test_best_comes_first_whichever_end_is_better(page: str) -> None:
    assert methods(stored.section(page, "enwik8-4M"))[:4] == [
        TITLES[name] for name in ("adaptive_span", "expire_span", "transformer_xl", "compressive")
    ]
    assert methods(stored.section(page, "corridor")) == [TITLES[name] for name in ("transformer_xl", "expire_span")]
    assert stored.line_of(stored.section(page, "corridor"), "Expire-Span")[2].startswith("-0.30 ")


def test_memory_is_in_slots_and_in_thousands_of_bytes(page: str) -> None:
    line = stored.line_of(stored.section(page, "enwik8-4M"), "Expire-Span")
    assert line[4:] == ["12.5 / 64.0", "16.4", "7.2", "31.5", "123", "1,000"]


def test_seeds_are_of_one_line_whatever_preset_they_came_from(page: str) -> None:
    part = stored.section(page, "enwik8-4M")
    for name in BPB:
        assert stored.line_of(part, TITLES[name])[3] == "3 of 3"
    assert len(methods(part)) == 6


def test_one_line_with_too_few_seeds_is_enough_for_the_warning(page: str) -> None:
    few = "Fewer than 3 seeds: no interval, and no difference is shown to be real."
    assert few in stored.section(page, "enwik8-4M")
    assert "± is half a Student-t 95 % interval" in stored.section(page, "enwik8-4M")
    assert few not in stored.section(page, "corridor")


def test_stale_results_are_labelled_and_no_others(page: str) -> None:
    part = stored.section(page, "enwik8-4M")
    labels = methods(part)
    assert [label for label in labels if "stale" in label] == ["Full attention (memory=none) (stale)"]
    assert "Full attention (memory=all)" in labels
    assert "- Stale: made by other code than today's" in part
    assert "- Stale:" not in stored.section(page, "corridor")


@pytest.mark.parametrize("baseline", [True, False])
def test_a_model_of_another_size_is_flagged_with_and_without_a_baseline(tmp_path: Path, baseline: bool) -> None:
    sizes = {"adaptive_span": 1000.0, "expire_span": 1200.0, "compressive": 1040.0, "full_attention": 890.0}
    if baseline:
        sizes["transformer_xl"] = 1150.0
    results = [stored.Stored(stored.spec(name), 2.5, figures={"parameters": size}) for name, size in sizes.items()]
    text, _ = build_report(stored.study(tmp_path / "s", results))
    flagged = [label for label in methods(stored.section(text, "enwik8-4M")) if "parameters" in label]
    if baseline:
        assert sorted(flagged) == ["Adaptive-Span (-13% parameters)", "Full attention (-23% parameters)"]
        assert "more than 10% from Transformer-XL's" in text
    else:
        assert sorted(flagged) == ["Expire-Span (+18% parameters)", "Full attention (-13% parameters)"]
        assert "more than 10% from the median" in text
