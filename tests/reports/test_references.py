"""What stands beside models: oracle, reactive policy and chance; solved seeds; further metrics; curves by distance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bench.store import manifest
from bench.store.frame import load
from bench.store.result import Row
from bench.store.statuses import Status
from models.card import problem
from models.registry import load_file
from reports import by_distance_figure, learning_curves
from reports.build import build_report
from reports.by_distance import by_distance
from reports.drawing import looks
from reports.page import quality_tables
from reports.quality import QualityTable
from tasks.registry import TASKS

stored = load_file(Path(__file__).with_name("stored_studies.py"))
SUCCESS = {"transformer_xl": (100.0, 79.9, 81.0), "expire_span": (50.0, 80.0, 60.0)}


def row(metric: str, value: float, n: int = 1000, /, unit: str = "%", **context: Any) -> Row:
    better = not metric.startswith("error")
    return Row(metric, value, unit, "test", n, higher_is_better=better, context=context)


def acting(folder: Path, oracle: bool = True) -> Path:
    """Three seeds of two agents in corridors; solved is nine tenths of what the oracle scores."""
    results = []
    for method, values in SUCCESS.items():
        for seed, value in enumerate(values):
            scores = [row("success_sampled", value - 10), row("success_reactive", 49.0), row("success_chance", 1.5)]
            scores += [row("success_oracle", 89.0 if seed else 88.0)] if oracle else []
            scores += [
                row("success_by_length", value - low, length_min=low, length_max=high) for low, high in ((4, 4), (5, 8))
            ]
            scores += [
                row(f"success_{who}_by_length", level, length_min=low, length_max=high)
                for who, level in (("oracle", 100.0), ("chance", 2.0))
                for low, high in ((4, 4), (5, 8))
            ]
            scores += [Row("success", value - 1, "%", "validation", 1000, higher_is_better=True, context={})]
            results.append(stored.Stored(stored.spec(method, seed, task="corridor"), value, scores=tuple(scores)))
    return Path(stored.study(folder, results))


def test_references_stand_below_the_models_and_solved_is_a_share_of_what_the_oracle_scores(tmp_path: Path) -> None:
    text = stored.page_of(acting(tmp_path / "s"))
    header, baseline, other = (stored.line_of(text, name) for name in ("method", "Transformer-XL", "Expire-Span"))
    solved = header.index("solved")
    assert (baseline[solved], other[solved]) == ("3 of 3", "1 of 3"), "79.8 is nine tenths of 88.67"
    assert stored.line_of(text, "oracle")[1:3] == ["88.7", "-"]
    assert stored.line_of(text, "reactive")[1] == "49.0"
    assert stored.line_of(text, "chance")[1] == "1.5"
    labels = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert labels[labels.index("oracle") - 1 :][:4] == ["Expire-Span", "oracle", "reactive", "chance"]
    assert "- Solved: seeds with success of at least 79.8 %" in text
    assert (
        "oracle, one who knows the full state; reactive, the most that a policy can have which remembers nothing"
        in text
    )


def test_where_nobody_knows_all_solved_is_a_share_of_a_hundred(tmp_path: Path) -> None:
    text = stored.page_of(acting(tmp_path / "s", oracle=False))
    assert stored.line_of(text, "Transformer-XL")[stored.line_of(text, "method").index("solved")] == "1 of 3"
    assert "| oracle |" not in text


def test_a_task_that_cannot_be_solved_has_no_such_column(tmp_path: Path) -> None:
    text = stored.page_of(stored.study(tmp_path / "s", [stored.Stored(stored.spec("transformer_xl"), 2.5)]))
    assert "solved" not in stored.line_of(text, "method")
    assert "Beside the models" not in text


def test_what_else_a_task_measures_has_columns_but_what_is_by_distance(tmp_path: Path) -> None:
    text = stored.page_of(acting(tmp_path / "s"))
    header = stored.line_of(text, "method")
    assert [name for name in header if name.endswith(("(%)", "(points)"))] == [
        "difference to Transformer-XL (points)",
        "success_sampled (%)",
    ]
    sampled = stored.line_of(text, "Expire-Span")[header.index("success_sampled (%)")]
    assert sampled.startswith("53.3 ± ")


def test_episodes_are_called_so(tmp_path: Path) -> None:
    text = stored.page_of(acting(tmp_path / "s"))
    assert "- Test: 100 episodes, the likeliest action taken, with the weights of the best validation point; " in text
    assert "; success_sampled: the same worlds, actions drawn as in training." in text
    assert "when the last world has ended" in text
    assert "is not in ±: 100 other episodes would shift scores by at most 5.0 points (one standard error). Diff" in text
    assert "- Beside the models, in the same worlds and in others, 1,000 episodes in all: oracle" in text


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_report_says_whether_actions_were_drawn(tmp_path: Path, split: str) -> None:
    result = stored.Stored(
        stored.spec("transformer_xl", task="portal"), 2.5, validation=2.0, context={"actions": "drawn"}
    )
    study = stored.study(tmp_path / "s", [result])
    text = stored.page_of(study, split)
    wanted = {
        "validation": "- Validation: the best point of each training, actions drawn as in training.",
        "test": "- Test: 100 episodes, actions drawn as in training, with the weights of the best validation point; "
        "rooms_greedy: the same worlds, the likeliest action taken.",
    }
    assert wanted[split] in text


def figure(study: Path, of: Any) -> tuple[QualityTable, Figure]:
    (quality,) = quality_tables(load(study))
    look = looks([line.group for line in quality.lines], {})
    drawn = of(quality, look)
    assert drawn is not None
    return quality, drawn


def distances(quality: QualityTable, look: Any) -> Figure:
    (found,) = by_distance(quality)
    return by_distance_figure.draw(quality, found, look)


def alt_of(quality: QualityTable) -> str:
    (found,) = by_distance(quality)
    return by_distance_figure.alt(quality, found)


def names_of(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.texts}


def test_success_by_length_is_drawn_with_its_mean_range_and_references(tmp_path: Path) -> None:
    quality, drawn = figure(acting(tmp_path / "s"), distances)
    (axes,) = drawn.axes
    assert (axes.get_xlabel(), axes.get_xscale()) == ("length (cells)", "linear")
    first = next(line for line in axes.lines if line.get_label() == "Expire-Span")
    assert first.get_xdata() == pytest.approx([4, 6.5])
    assert first.get_ydata() == pytest.approx([63.33 - 4, 63.33 - 5], abs=0.01)
    band = np.asarray(axes.collections[1].get_paths()[0].vertices)
    assert (band[:, 1].min(), band[:, 1].max()) == (50.0 - 5, 80.0 - 4)
    assert names_of(axes) == {"oracle", "chance"}, "who is scored by length"
    assert "success against length (cells)" in alt_of(quality)


def test_distances_of_agents_are_steps_and_a_metric_by_distance_has_its_own_unit(tmp_path: Path) -> None:
    scores = (
        row("second_tries_by_distance", 90.0, distance_min=2, distance_max=3),
        row("second_tries_by_distance", 80.0, distance_min=4, distance_max=7),
        row("second_tries_reactive_by_distance", 50.0, distance_min=2, distance_max=3),
        row("second_tries_reactive_by_distance", 49.0, distance_min=4, distance_max=7),
        row("rooms_oracle", 3.0, unit="rooms"),
    )
    result = stored.Stored(stored.spec("transformer_xl", task="portal"), 2.5, scores=scores)
    quality, drawn = figure(stored.study(tmp_path / "s", [result]), distances)
    (axes,) = drawn.axes
    assert quality.unit == "rooms"
    assert axes.get_ylabel() == "second tries (%), higher is better"
    assert axes.get_xlabel() == "steps from the mistake to being back in the room"
    assert names_of(axes) == {"reactive"}, "of second tries; who passes three rooms is of another figure"
    (path,) = [line for line in axes.lines if line.get_linewidth() < 1]
    assert np.asarray(path.get_ydata(), dtype=float).tolist() == [50.0, 49.0]
    text = stored.page_of(tmp_path / "s")
    assert "how often it meets a distance is its own doing" in text


def test_blocks_of_another_length_are_named(tmp_path: Path) -> None:
    scores = [row("second_tries_by_distance", 90.0, distance_min=low, distance_max=2 * low - 1) for low in (2, 4)]
    lengths = {"transformer_xl": 1, "expire_span": 1, "compressive": 2}
    cells = [stored.spec(name, task="portal", train={"block_length": length}) for name, length in lengths.items()]
    cells.append(
        stored.spec(
            "full_attention",
            variant="memory=none",
            method_settings={"memory": "none"},
            task="portal",
            train={"block_length": 9},
        )
    )
    study = stored.study(tmp_path / "s", [stored.Stored(cell, 2.5, scores=tuple(scores)) for cell in cells])
    text = stored.page_of(study)
    assert (
        "- A block has 1 step (2 with Compressive Transformer): from 4 on, what must be remembered is four blocks away."
        in text
    )


def test_accuracy_by_distance_leaves_out_what_few_answers_say(tmp_path: Path) -> None:
    bins = {(1, 1): 500, (2, 3): 29, (1024, 2047): 30}
    scores = tuple(
        row("error_by_distance", 10.0, n, distance_min=low, distance_max=high) for (low, high), n in bins.items()
    )
    result = stored.Stored(stored.spec("transformer_xl", task="object_collision"), 50.0, scores=scores)
    _, drawn = figure(stored.study(tmp_path / "s", [result]), distances)
    (axes,) = drawn.axes
    line, upright = axes.lines
    assert line.get_xdata() == pytest.approx([1, (1024 * 2047) ** 0.5])
    assert np.asarray(upright.get_xdata()).tolist() == [4 * 8] * 2, "four blocks"
    assert names_of(axes) == {"four blocks"}
    low, high = axes.get_ylim()
    assert high - 0.08 * (high - low) > 10.0, "the name stands above the line"
    assert axes.get_xscale() == "log"
    assert "tokens" in axes.get_xlabel()


def test_a_table_has_each_distance_with_its_interval_and_says_how_far_four_blocks_are(tmp_path: Path) -> None:
    near: dict[str, Any]
    far: dict[str, Any]
    near, far = {"distance_min": 8, "distance_max": 15}, {"distance_min": 1024, "distance_max": 2047}
    results = []
    for method, values in {"transformer_xl": (40.0, 50.0, 60.0), "expire_span": (10.0, 20.0, 60.0)}.items():
        for seed, value in enumerate(values):
            scores = [row("error_by_distance", value, 300, **near)]
            scores += [row("error_chance_by_distance", level, **at) for level, at in ((74.0, near), (72.0, far))]
            scores += [row("error_by_distance", 70.0, 40, **far)] if method == "expire_span" else []
            spec = stored.spec(method, seed, task="object_collision")
            results.append(stored.Stored(spec, value, scores=tuple(scores)))
    text = stored.page_of(stored.study(tmp_path / "s", results))
    _, part = text.split("### object_collision: error by distance\n")
    header = stored.line_of(part, "error (%) ↓ by distance (tokens)")
    assert header[1:] == ["8-15", "1,024-2,047"]
    assert stored.line_of(part, "Transformer-XL")[1:] == ["50.0 ± 24.8", "-"]
    assert stored.line_of(part, "Expire-Span")[1:] == ["30.0 ± 65.7", "70.0 ± 0.0"]
    assert stored.line_of(part, "chance")[1:] == ["74.0", "72.0"]
    assert "fewer than 30 answers is left out" in part, "these results do not say about how many places"
    assert "- A block has 8 tokens: from 32 on, what must be remembered is four blocks away." in part
    assert "- ± is half a Student-t 95 % interval over seeds, of each bin by itself" in part


def test_a_table_without_distances_has_no_such_figure(tmp_path: Path) -> None:
    (quality,) = quality_tables(load(stored.study(tmp_path / "s", [stored.Stored(stored.spec("transformer_xl"), 2.5)])))
    assert by_distance(quality) == []


def test_curves_of_agents_are_of_success_and_reward_by_episodes(tmp_path: Path) -> None:
    study = acting(tmp_path / "s")
    cell = stored.spec("expire_span", 0, task="corridor")
    records = [(5, "reward", 0.25, "train"), (10, "reward", 0.5, "train"), (5, "loss", 9.0, "train")]
    records += [(10, "success", 40.0, "validation")]
    names = ("step", "metric", "value", "split")
    manifest.cell_folder(study, cell.id).append(
        dict(zip(names, record, strict=True)) | {"seconds": 1.0} for record in records
    )
    quality, drawn = figure(study, lambda quality, look: learning_curves.draw(study, quality, look, {}))
    left, right = drawn.axes
    (curve,) = [line for line in right.lines if np.size(line.get_xdata())]
    assert curve.get_ydata() == pytest.approx([0.25, 0.5])
    assert curve.get_xdata() == pytest.approx([5 * 4 / 1000, 10 * 4 / 1000]), "four worlds a step, whatever T is"
    assert "reward per episode" in right.get_ylabel()
    assert "episodes" in left.get_xlabel()
    assert names_of(left) == {"oracle (test)", "reactive (test)", "chance (test)"}
    assert "reward against training episodes" in learning_curves.alt(quality, False)


def test_a_sweep_has_no_figure_of_the_test(tmp_path: Path) -> None:
    study = acting(tmp_path / "s")
    (study / "sweep.json").write_text("{}")
    text, files = build_report(study)
    assert not [path for path in files if "by-distance" in path.name]
    assert "Validation: the best point of each training, the likeliest action taken." in text


def test_metrics_by_distance_are_not_mixed_and_ends_that_are_missing_are_left_out(tmp_path: Path) -> None:
    scores = (
        row("error_by_distance", 10.0, 100, distance_min=2, distance_max=3),
        row("error_by_distance", 20.0, 100, distance_min=4, distance_max=7),
        row("error_by_distance", 90.0, 100),
        row("other_by_distance", 50.0, 100, distance_min=2, distance_max=3),
    )
    result = stored.Stored(stored.spec("transformer_xl", task="object_collision"), 50.0, scores=scores)
    _, drawn = figure(stored.study(tmp_path / "s", [result]), distances)
    assert drawn.axes[0].lines[0].get_ydata() == pytest.approx([10.0, 20.0])


def test_a_score_of_all_distances_is_not_drawn_as_one_of_each(tmp_path: Path) -> None:
    scores = [row("error_by_distance", 10.0, distance_min=low, distance_max=2 * low - 1) for low in (2, 4)]
    result = stored.Stored(
        stored.spec("transformer_xl", task="object_collision"), 50.0, scores=(*scores, row("error_chance", 74.0))
    )
    _, drawn = figure(stored.study(tmp_path / "s", [result]), distances)
    assert names_of(drawn.axes[0]) == set()


def test_one_distance_is_no_table(tmp_path: Path) -> None:
    scores = (row("error_by_distance", 10.0, distance_min=64, distance_max=127),)
    result = stored.Stored(stored.spec("transformer_xl", task="object_collision"), 50.0, scores=scores)
    text, files = build_report(stored.study(tmp_path / "s", [result]))
    assert "by distance" not in text
    assert not [path for path in files if "by-distance" in path.name]


def test_a_bin_that_one_seed_has_too_few_answers_in_is_left_out(tmp_path: Path) -> None:
    results = []
    for seed in range(3):
        counts = {2: 100, 4: 100, 8: 29 if seed == 1 else 100}
        scores = [
            row("error_by_distance", 10.0, n, distance_min=low, distance_max=2 * low - 1) for low, n in counts.items()
        ]
        # Many answers, but about few places.
        scores.append(row("error_by_distance", 10.0, 999, distance_min=16, distance_max=31, sources=29))
        spec = stored.spec("transformer_xl", seed, task="object_collision")
        results.append(stored.Stored(spec, 50.0, scores=tuple(scores)))
    (quality,) = quality_tables(load(stored.study(tmp_path / "s", results)))
    (found,) = by_distance(quality)
    assert found.ends() == [(2, 3), (4, 7)]
    assert {len(values) for values in found.values["Transformer-XL"].values()} == {3}


def test_agents_that_learn_in_blocks_of_other_lengths_share_a_table(tmp_path: Path) -> None:
    blocks = {"transformer_xl": 8, "full_attention": 1}
    results = [
        stored.Stored(stored.spec(name, task="corridor", train={"block_length": length}), 50.0)
        for name, length in blocks.items()
    ]
    text = stored.page_of(stored.study(tmp_path / "s", results))
    assert text.count("\n## corridor") == 1
    streams = [stored.Stored(stored.spec(name, train={"block_length": length}), 2.5) for name, length in blocks.items()]
    text = stored.page_of(stored.study(tmp_path / "t", streams))
    assert text.count("\n## enwik8") == 2


def test_a_line_without_a_score_has_not_failed_to_solve(tmp_path: Path) -> None:
    results = [
        stored.Stored(stored.spec("transformer_xl", task="corridor"), 100.0),
        stored.Stored(stored.spec("expire_span", task="corridor"), None, Status.ERROR),
    ]
    text = stored.page_of(stored.study(tmp_path / "s", results))
    solved = stored.line_of(text, "method").index("solved")
    assert stored.line_of(text, "Transformer-XL")[solved] == "1 of 1"
    assert stored.line_of(text, "Expire-Span")[solved] == "-"


@pytest.mark.parametrize("status", [Status.OOM, None])
def test_a_task_in_percent_without_any_result_is_reported_too(tmp_path: Path, status: Status | None) -> None:
    results = [stored.Stored(stored.spec("transformer_xl", seed), 2.0 + seed) for seed in range(3)]
    if status is not None:
        results += [stored.Stored(stored.spec("transformer_xl", 0, task="corridor"), None, status)]
    study = stored.study(tmp_path / "s", results)
    manifest.merge(study, [stored.spec("transformer_xl", 1, task="corridor")], titles=stored.CARDS)
    assert "No cell has a test result yet." in stored.page_of(study)


def test_a_test_that_nobody_else_has_taken_needs_no_word_on_intervals(tmp_path: Path) -> None:
    result = stored.Stored(stored.spec("transformer_xl", task="corridor"), 50.0)
    assert "whose choice is not in" not in stored.page_of(stored.study(tmp_path / "s", [result]))


def test_solved_counts_seeds_that_failed_and_none_that_has_not_run(tmp_path: Path) -> None:
    results = [
        stored.Stored(stored.spec("transformer_xl", 0, task="corridor"), 100.0),
        stored.Stored(stored.spec("transformer_xl", 1, task="corridor"), None, Status.DIVERGED),
        stored.Stored(stored.spec("transformer_xl", 2, task="corridor"), None, Status.UNSUPPORTED),
    ]
    study = stored.study(tmp_path / "s", results)
    manifest.merge(study, [stored.spec("transformer_xl", 3, task="corridor")], titles=stored.CARDS)
    line = stored.line_of(stored.page_of(study), "Transformer-XL")
    assert "1 of 2" in line
    assert "1 of 4" in line, "one seed of four has a score"


@pytest.mark.parametrize(("share", "higher"), [(0, True), (95.0, True), ("0.9", True), (True, True), (0.9, False)])
def test_a_card_that_says_nonsense_of_solved_is_refused(share: Any, higher: bool) -> None:
    card = {**TASKS.card("corridor"), "solved": share, "higher_is_better": higher}
    assert "solved" in (problem(card, TASKS.card_kinds) or "")
    assert problem({**card, "solved": 0.9, "higher_is_better": True}, TASKS.card_kinds) is None
