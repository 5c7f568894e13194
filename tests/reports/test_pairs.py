"""Each line of a table against each: what three seeds tell apart, corrected for the number of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bench.store.frame import load
from models.registry import load_file
from reports.build import build_report
from reports.page import quality_tables
from reports.pairs import pairs, pairs_frame, sentence
from reports.quality import QualityTable

stored = load_file(Path(__file__).with_name("stored_studies.py"))


def table(
    folder: Path, scores: Mapping[str, Sequence[float]], task: str = "enwik8", split: str = "test"
) -> QualityTable:
    """A table of these methods' scores, one for each seed from 0 on."""
    results = [
        stored.Stored(stored.spec(method, seed, task=task), score, validation=score)
        for method, found in scores.items()
        for seed, score in enumerate(found)
    ]
    (quality,) = quality_tables(load(stored.study(folder / "s", results)), split)
    return quality


SCORES = {
    "transformer_xl": (2.5000, 2.5101, 2.5200),
    "expire_span": (2.4000, 2.4100, 2.4201),
    "adaptive_span": (2.4001, 2.4099, 2.4200),
}


def test_pairs_that_differ_are_named_and_those_that_do_not_are_not(tmp_path: Path) -> None:
    assert sentence(table(tmp_path, SCORES)) == (
        "Each against each, paired by seed, with p values Holm-corrected for all 3 pairs: Adaptive-Span is better than "
        "Transformer-XL; Expire-Span is better than Transformer-XL (p < 0.05; all are in pairs.csv)."
    )


def test_where_more_is_better_the_greater_is_the_better(tmp_path: Path) -> None:
    told = sentence(table(tmp_path, SCORES, "corridor"))
    assert "Transformer-XL is better than Expire-Span and Adaptive-Span (p" in told


def test_differences_are_paired_by_seed_and_corrected_for_their_number(tmp_path: Path) -> None:
    found = {
        frozenset((pair.first.group.method, pair.second.group.method)): pair for pair in pairs(table(tmp_path, SCORES))
    }
    pair = found[frozenset(("transformer_xl", "expire_span"))]
    sign = 1 if pair.first.group.method == "transformer_xl" else -1
    apart = [sign * (ours - theirs) for ours, theirs in zip(*(SCORES[name] for name in list(SCORES)[:2]), strict=True)]
    assert pair.difference.mean.value == pytest.approx(sum(apart) / 3)
    assert pair.p == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
    alone = sorted(pair.p for pair in found.values())
    corrected = [min(1, alone[0] * 3), min(1, alone[1] * 2), alone[2]]
    assert sorted(pair.difference.p or 0.0 for pair in found.values()) == pytest.approx(corrected)


def test_what_does_not_differ_is_said_not_to(tmp_path: Path) -> None:
    alike = {name: (2.5 + 0.01 * turn, 2.49, 2.51 - 0.01 * turn) for turn, name in enumerate(SCORES)}
    assert "for all 3 pairs: no difference is shown (p < 0.05" in sentence(table(tmp_path, alike))


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nothing_is_told_apart(tmp_path: Path, seeds: int) -> None:
    quality = table(tmp_path, {name: found[:seeds] for name, found in SCORES.items()})
    assert sentence(quality) == ""
    assert pairs_frame([quality]).empty


def test_one_pair_is_the_tables_own_and_a_choice_of_settings_has_none(tmp_path: Path) -> None:
    two = dict(list(SCORES.items())[:2])
    assert sentence(table(tmp_path / "two", two)) == ""
    assert pairs(table(tmp_path / "choice", SCORES, split="validation")) == []


def test_the_report_says_it_and_has_all_pairs_in_a_file(tmp_path: Path) -> None:
    quality = table(tmp_path, SCORES)
    text, _ = build_report(tmp_path / "s")
    assert f"- {sentence(quality)}" in text
    frame = pd.read_csv(tmp_path / "s" / "report" / "pairs.csv")
    assert list(frame.columns) == ["table", "label", "other", "difference", "half_interval", "p", "p_holm", "n"]
    pd.testing.assert_frame_equal(frame, pairs_frame([quality]))
    assert (frame["n"] == 3).all()
