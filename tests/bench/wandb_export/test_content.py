"""What a run says, from stored files alone: names, tags, curves, and nothing of the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.store.result import Row
from bench.store.statuses import Status
from bench.wandb_export.content import RunContent, content_of, head_of, moments
from bench.wandb_export.settings import WandbSettings
from models.checkout import CHECKOUT
from models.errors import SettingsError
from models.registry import load_file

cells = load_file(Path(__file__).with_name("finished_cells.py"))


def data(cell: Any) -> dict[str, Any]:
    return cell.to_json() | {"cell": cell.id}


def content(cell: Any, *rows: Row, study: str = "s", **changes: Any) -> RunContent:
    ended = replace(cells.result(cell), **changes)
    return content_of(study, data(cell), replace(ended, rows=[*ended.rows, *rows]), cells.records(), None)


def test_run_is_grouped_by_task_method_and_seed() -> None:
    head = head_of("s", data(cells.spec("full_attention", "memory=none", seed=2)))
    assert head.group == "enwik8-4M"
    assert head.job_type == "full_attention+memory=none"
    assert set(head.tags) == {
        "method:full_attention+memory=none",
        "task:enwik8-4M",
        "preset:small",
        "impl:reference",
        "precision:32-true",
        "seed:2",
    }
    assert head.config["seed"] == 2
    assert head.config["train"]["learning_rate"] == 3e-3


def test_id_is_that_of_study_and_cell_alone() -> None:
    cell = cells.spec()
    one = head_of("s", data(cell))
    assert one.id == head_of("s", data(replace(cell, threads=4, preset="other"))).id
    assert one.id != head_of("t", data(cell)).id
    assert one.id != head_of("s", data(replace(cell, seed=1))).id


def test_names_that_w_and_b_would_refuse_are_shortened_and_stay_apart() -> None:
    heads = [head_of("s", data(cells.spec(task_label="x" * 200 + end))) for end in "ab"]
    assert all(len(tag) <= 64 for head in heads for tag in head.tags)
    assert heads[0].group != heads[1].group
    assert len(heads[0].group) == 128


def test_points_of_one_step_are_one_moment_at_its_last_record() -> None:
    found = moments(cells.records())
    assert [moment.step for moment in found] == [10, 20, 50]
    assert found[-1].figures == {"train/loss": 0.08, "validation/bpb": 2.75}
    assert found[-1].seconds == 26.0


def test_missing_value_has_no_name() -> None:
    summary = content(cells.spec()).summary
    assert summary == {"status": "ok", "seconds": 31.5, "attempt": 1, "test/bpb": 2.5, "parameters": 4096.0}


def test_rows_of_one_name_are_told_apart_by_their_context() -> None:
    rows = [Row("error", value, "%", "test", context={"age": age, "batch": 4}) for age, value in ((1, 0.5), (64, 0.25))]
    summary = content(cells.spec(), *rows).summary
    assert (summary["test/error/age=1"], summary["test/error/age=64"]) == (0.5, 0.25)
    summary = content(cells.spec(), rows[0], rows[0]).summary
    assert (summary["test/error"], summary["test/error/2"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("status", "code"), [(Status.OK, 0), (Status.UNSUPPORTED, 0), (Status.OOM, 1), (Status.ERROR, 1)]
)
def test_failure_is_a_run_that_failed(status: Status, code: int) -> None:
    found = content(cells.spec(), status=status, reason="because", rows=[])
    assert found.exit_code == code
    assert found.summary["status"] == status.value
    assert found.summary["reason"] == "because"
    assert found.curve


def test_nothing_names_a_folder() -> None:
    cell = cells.spec(
        task_settings={"data": "file", "path": "../../somebody/texts/corpus.bin"},
        plugins=[{"kind": "method", "id": "mine", "path": "../somebody/mine.py", "sha256": "ab"}],
    )
    found = content(cell, status=Status.ERROR, reason=f"there is no file {CHECKOUT}/x nor /srv/somebody/y", rows=[])
    said = json.dumps(asdict(found))
    assert "somebody" not in said
    assert str(CHECKOUT) not in said
    assert found.head.config["task_settings"]["path"] == "corpus.bin"
    assert found.head.config["plugins"] == [{"kind": "method", "id": "mine", "sha256": "ab"}]


def test_digest_changes_with_what_the_run_says_and_with_nothing_else() -> None:
    cell = cells.spec()
    assert content(cell).digest == content(cell).digest
    others = [content(cell, seconds=32.0), content(cell, study="t"), content(cells.spec(seed=1))]
    assert len({content(cell).digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize(("key", "value"), [("project", "a/b"), ("project", ""), ("time_limit_s", 0.0)])
def test_settings_that_cannot_work_are_refused(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"wandb.{key}"):
        WandbSettings(**{key: value})
