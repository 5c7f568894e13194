"""Reports from stored rows: what the tables show, and that nothing that was asked for goes missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.spec import CellSpec
from bench.store import manifest
from bench.store.statuses import Status
from models.registry import load_file
from reports.__main__ import main
from reports.build import build_report

stored = load_file(Path(__file__).with_name("stored_studies.py"))
spec = stored.spec


def line_of(text: str, label: str) -> str:
    return " | ".join(stored.line_of(text, label))


def study(folder: Path, results: Sequence[tuple[CellSpec, float | None, Status, float]]) -> Path:
    """A study whose cells have these results: spec, test bpb, status, parameters."""
    return stored.study(
        folder,
        [
            stored.Stored(cell, value, status, {"parameters": parameters, "slots_alive": 12.5})
            for cell, value, status, parameters in results
        ],
    )


def test_three_seeds_give_means_intervals_and_paired_differences_best_first(tmp_path: Path) -> None:
    results = [(spec("transformer_xl", seed), 2.5 + seed / 100, Status.OK, 1000.0) for seed in range(3)]
    results += [(spec("expire_span", seed), 2.4 + seed / 100, Status.OK, 1050.0) for seed in range(3)]
    text, files = build_report(study(tmp_path / "s", results))
    assert text.index("| Expire-Span") < text.index("| Transformer-XL")
    assert "2.4100 ± 0.0248" in line_of(text, "Expire-Span")
    assert "-0.1000 ± 0.0000" in line_of(text, "Expire-Span")
    assert "3 of 3" in line_of(text, "Expire-Span")
    assert "12.5 / -" in line_of(text, "Expire-Span")
    assert [path.name for path in files] == [
        "report.md",
        "report.html",
        "quality.csv",
        "pairs.csv",
        "efficiency.csv",
        "rows.csv",
    ]


def test_one_seed_shows_no_interval_and_says_why(tmp_path: Path) -> None:
    text, _ = build_report(study(tmp_path / "s", [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0)]))
    assert "±" not in text.split("\n- ")[0]
    assert "Fewer than 3 seeds" in text


def test_a_cell_that_failed_and_one_that_never_ran_are_shown_with_their_reason(tmp_path: Path) -> None:
    folder = study(
        tmp_path / "s",
        [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0), (spec("expire_span", 0), None, Status.TIMEOUT, 0.0)],
    )
    manifest.merge(folder, [spec("full_attention", 0)])
    text, _ = build_report(folder)
    assert "0 of 1" in line_of(text, "Expire-Span")
    assert "| timeout" in text
    assert "it broke" in text
    assert "| pending" in text


def test_a_damaged_result_is_named_and_never_shown_as_a_number(tmp_path: Path) -> None:
    cell = spec("transformer_xl", 0)
    folder = study(tmp_path / "s", [(cell, 2.5, Status.OK, 1000.0)])
    manifest.cell_folder(folder, cell.id).result_path.write_text('{"cell"')
    text, _ = build_report(folder)
    assert "2.5000" not in text
    assert "## Damaged files" in text
    assert "result.json" in text


def test_a_study_whose_manifest_is_lost_shows_its_results_all_the_same(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0)])
    whole, _ = build_report(folder)
    manifest.manifest_path(folder).unlink()
    text, _ = build_report(folder)
    assert "| test bpb (bits/byte) ↓ |" in whole
    assert "| test bpb (bits/byte) ↓ |" in text
    assert "2.5000" in line_of(text, "transformer_xl"), "under its id, for its title is lost"
    assert "s/manifest.json is missing" in text


def test_settings_tell_groups_of_the_same_method_apart_and_variants_stand_in_the_label(tmp_path: Path) -> None:
    results = [
        (spec("expire_span", 0, rate=1e-3), 2.5, Status.OK, 1000.0),
        (spec("expire_span", 0, rate=2e-3), 2.4, Status.OK, 1000.0),
        (spec("full_attention", 0, "memory=none"), 2.9, Status.OK, 1000.0),
    ]
    text, _ = build_report(study(tmp_path / "s", results))
    assert "Expire-Span [train.learning_rate=0.001]" in text
    assert "Expire-Span [train.learning_rate=0.002]" in text
    assert "Full attention (memory=none)" in text
    assert "Not the same for all: learning rate; each method's stands with its name." in text
    assert "- Full attention (memory=none): learning_rate 0.003." in text, "the others' stand in their labels"


def test_each_methods_settings_stand_below_the_table_and_in_the_csvs(tmp_path: Path) -> None:
    import pandas as pd

    own = {"max_span": 192, "ramp": 16, "noisy": False, "coefficient": 1e-6, "position_scale": 1.0}
    results = [
        (spec("expire_span", rate=1e-3, method_settings=own), 2.4, Status.OK, 1000.0),
        (spec("transformer_xl", method_settings={"memory_length": 96, "position_scale": 1.0}), 2.5, Status.OK, 1000.0),
    ]
    text, _ = build_report(study(tmp_path / "s", results))
    assert "- Alike in all lines: position_scale 1.0; impl reference.\n" in text
    assert (
        "- Expire-Span: max_span 192, ramp 16, noisy false, coefficient 1e-06; learning_rate 0.001.\n"
        "- Transformer-XL: memory_length 96; learning_rate 0.003.\n"
    ) in text
    assert "- Tuning: how many settings of each method were tried before is not recorded" in text
    row = pd.read_csv(tmp_path / "s" / "report" / "quality.csv").iloc[0]
    assert json.loads(row["method_settings"]) == own
    assert json.loads(row["train"])["learning_rate"] == 1e-3


def test_impls_are_named_where_methods_have_several(tmp_path: Path) -> None:
    results = [(spec("expire_span"), 2.4, Status.OK, 1e3), (spec("transformer_xl", impl="fast"), 2.5, Status.OK, 1e3)]
    text, _ = build_report(study(tmp_path / "s", results))
    assert "- Transformer-XL: impl fast.\n" in text


@pytest.mark.parametrize(
    ("variant", "settings", "label"),
    [
        ("", {"memory": "all", "max_span": 128}, "Full attention (max_span=128)"),
        ("max_span=128", {"memory": "all", "max_span": 128}, "Full attention (max_span=128)"),
        ("", {"memory": "all", "max_span": None}, "Full attention"),
        ("memory=none", {"memory": "none", "max_span": 128}, "No memory"),
    ],
)
def test_full_attention_within_a_window_says_so(
    tmp_path: Path, variant: str, settings: dict[str, Any], label: str
) -> None:
    result = (spec("full_attention", variant=variant, method_settings=settings), 2.5, Status.OK, 1000.0)
    text, _ = build_report(study(tmp_path / "s", [result]))
    assert f"| {label} |" in text
    windowed = "- Full attention (max_span=128) sees the last 128 positions and no more: what Transformer-XL"
    assert (windowed in text) == ("max_span" in label)


def test_percentages_have_one_decimal_and_their_differences_two(tmp_path: Path) -> None:
    scores = {"transformer_xl": (57.04, 57.55, 57.84), "expire_span": (56.01, 56.43, 56.95)}
    results = [
        stored.Stored(spec(name, seed, task="object_collision"), score)
        for name, found in scores.items()
        for seed, score in enumerate(found)
    ]
    text, _ = build_report(stored.study(tmp_path / "s", results))
    line = stored.line_of(text, "Expire-Span")
    assert line[1] == "56.5 ± 1.2"
    assert line[2].startswith("-1.01 ± 0.29 (p ")
    assert "- All methods and seeds are tested on the same data, whose choice is not in ±: other worlds" in text
    assert stored.line_of(text, "method")[2] == "difference to Transformer-XL (points)"


def test_a_sweep_is_ordered_by_validation_and_shows_no_test(tmp_path: Path) -> None:
    import pandas as pd

    results = [
        stored.Stored(spec("transformer_xl", rate=rate), test, validation=validation)
        for rate, test, validation in ((1e-3, 2.1, 2.6), (2e-3, 2.2, 2.4), (3e-3, 2.3, 2.5))
    ]
    folder = stored.study(tmp_path / "s", results)
    text, _ = build_report(folder)
    assert stored.line_of(text, "method")[1] == "test bpb (bits/byte) ↓"
    assert "serves to choose" not in text
    (folder / "sweep.json").write_text("{}")
    text, _ = build_report(folder)
    assert stored.line_of(text, "method")[1:3] == ["validation bpb (bits/byte) ↓", "seeds"], "no differences"
    shown = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| Transformer-XL")]
    assert shown == ["2.4000", "2.5000", "2.6000"]
    assert not any(f"{result.value:.4f}" in text for result in results)
    assert "This study serves to choose settings: its lines are ordered by validation, which alone chooses." in text
    assert "- Validation: the best point of each training" in text
    assert "Tuning:" not in text
    frame = pd.read_csv(folder / "report" / "quality.csv")
    assert list(frame["test"]) == [2.2, 2.3, 2.1]
    assert set(frame["ordered_by"]) == {"validation"}


def test_a_model_of_another_size_is_flagged(tmp_path: Path) -> None:
    results = [
        (spec("transformer_xl", 0), 2.5, Status.OK, 1000.0),
        (spec("expire_span", 0), 2.4, Status.OK, 1200.0),
    ]
    text, _ = build_report(study(tmp_path / "s", results))
    assert "Expire-Span (+20% parameters)" in text


@pytest.mark.slow
def test_the_command_ends_with_json_imports_no_torch_and_refuses_a_missing_study(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0)])
    code = (
        "import sys, runpy; sys.argv = ['reports', 'build', sys.argv[1]]\n"
        "try: runpy.run_module('reports', run_name='__main__')\n"
        "finally: assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["study"] == "s"
    done = subprocess.run(
        [sys.executable, "-m", "reports", "build", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "there is no study" in done.stderr


def test_figures_are_drawn_again_and_nothing_else_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = spec("transformer_xl", 0)
    folder = study(tmp_path / "s", [(cell, 2.5, Status.OK, 1000.0)])
    record = {"step": 1, "metric": "loss", "value": 3.0, "split": "train", "seconds": 1.0}
    manifest.cell_folder(folder, cell.id).append([record])
    assert main(["build", str(folder), "--figures"]) == 0
    drawn = [str(folder / "report" / f"enwik8-4M-learning-curves.{kind}") for kind in ("svg", "png")]
    assert capsys.readouterr().out.splitlines() == [*drawn, json.dumps({"study": "s", "files": drawn})]
    assert sorted(map(str, (folder / "report").iterdir())) == sorted(drawn)
    assert main(["build", str(tmp_path / "none"), "--figures"]) == 2
    assert "there is no study" in capsys.readouterr().err


def test_a_file_in_a_studys_place_and_a_folder_in_a_results_place_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["build", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"reports: there is no study in {tmp_path / 'file'}.")
    cell = spec("transformer_xl", 0)
    folder = study(tmp_path / "s", [(cell, 2.5, Status.OK, 1000.0)])
    path = manifest.cell_folder(folder, cell.id).result_path
    path.unlink()
    path.mkdir()
    assert main(["build", str(folder)]) == 2
    assert capsys.readouterr().err == f"reports: {path}: Is a directory.\n"


@pytest.mark.slow
def test_a_page_is_printed_where_the_terminal_knows_ascii_alone(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0)])
    command = [sys.executable, "-m", "reports", "build", str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(bits/byte) \\u2193 |" in done.stdout
    assert "(bits/byte) ↓ |" in (folder / "report" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["quality.csv", "rows.csv"])
def test_the_csv_files_hold_what_was_measured(tmp_path: Path, name: str) -> None:
    import pandas as pd

    folder = study(tmp_path / "s", [(spec("transformer_xl", 0), 2.5, Status.OK, 1000.0)])
    build_report(folder)
    frame = pd.read_csv(folder / "report" / name)
    column = "test" if name == "quality.csv" else "value"
    assert frame[column].iloc[0] == 2.5
