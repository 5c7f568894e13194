"""Results: what may stand in them, and what is damage."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from bench.store.damaged import DamagedFile, parse_json
from bench.store.result import Result, Row
from bench.store.statuses import RESULTS, RETRIED, WELL, Status

PATH = Path("cells/a/result.json")


def result(**other: Any) -> Result:
    row = Row("bpb", 1.25, "bits/byte", "test", n=100, higher_is_better=False, context={"block_length": 32})
    return Result("a", Status.OK, rows=[row, Row("peak_bytes", None, "bytes", "")], seconds=3.0, attempt=1, **other)


def test_a_result_survives_being_written_and_read() -> None:
    data = json.loads(json.dumps(result(provenance={"torch": "2"}).to_json(), allow_nan=False))
    assert Result.from_json(data, PATH) == result(provenance={"torch": "2"})
    assert data["status"] == "ok"


def test_a_result_that_is_ok_has_measured_something() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Result("a", Status.OK)
    assert Result("a", Status.PRUNED).rows == []


def test_a_reason_is_one_line() -> None:
    assert Result("a", Status.ERROR, "first\n  second").reason == "first second"


@pytest.mark.parametrize("status", sorted(set(Status) - RESULTS))
def test_a_derived_status_cannot_stand_in_a_result(status: Status) -> None:
    with pytest.raises(ValueError, match="derived"):
        Result("a", status)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_a_row_without_a_finite_value_must_say_none(number: float) -> None:
    with pytest.raises(ValueError, match="bpb"):
        Row("bpb", number, "bits/byte", "test")
    assert Row("bpb", None, "bits/byte", "test").value is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("cell"),
        lambda data: data.pop("rows"),
        lambda data: data.update(status="running"),
        lambda data: data.update(status="fine"),
        lambda data: data.update(rows={}),
        lambda data: data.update(seconds="3"),
        lambda data: data.update(unknown=1),
        lambda data: data["rows"][0].pop("metric"),
        lambda data: data["rows"][0].update(value="1.25"),
        lambda data: data["rows"][0].update(value=True),
        lambda data: data["rows"].append(3),
        lambda data: data["rows"].clear(),
        lambda data: data.update(died="yes"),
        lambda data: data["provenance"].update(cores="two"),
        lambda data: data["provenance"].update(cores=2.5),
        lambda data: data["provenance"].update(dirty="no"),
        lambda data: data["provenance"].update(commit=3),
        lambda data: data["rows"][0].update(surprise=1),
    ],
)
def test_a_result_of_another_shape_is_damaged(change: Any) -> None:
    data = result().to_json()
    change(data)
    with pytest.raises(DamagedFile, match=r"a/result\.json is damaged"):
        Result.from_json(data, PATH)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\0" * 20, b"\xff", b"[" * 100_000])
def test_what_is_not_a_json_object_is_damaged(content: bytes) -> None:
    with pytest.raises(DamagedFile, match=r"a/result\.json is damaged"):
        parse_json(PATH, content)


def test_damage_can_be_sent_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DamagedFile(PATH, "why")))
    assert str(error) == "a/result.json is damaged: why"


def test_the_main_row_is_of_the_test_split_if_there_is_one() -> None:
    validation = Row("bpb", 2.0, "bits/byte", "validation")
    test = Row("bpb", 1.0, "bits/byte", "test")
    other = Row("accuracy", 1.0, "", "test")
    assert Result("a", Status.OK, rows=[validation, test, other]).main_row("bpb") == test
    assert Result("a", Status.OK, rows=[validation, other]).main_row("bpb") == validation
    assert Result("a", Status.OK, rows=[other]).main_row("bpb") is None
    assert Result("a", Status.OK, rows=[other]).main_row(None) is None


def test_every_failure_and_nothing_else_is_retried_with_failed() -> None:
    assert RETRIED["failed"] == RESULTS - WELL
    assert RETRIED["all"] == RESULTS
