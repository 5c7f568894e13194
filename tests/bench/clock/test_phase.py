"""The clock phase of a study: what it measures, what it leaves alone, and what it writes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.clock import phase
from bench.clock.contestant import Failure
from bench.clock.phase import clock_study, failures, finished, settings_of
from bench.clock.rounds import Timed
from bench.clock.settings import ClockSettings
from bench.executors.device_lock import DeviceLock
from bench.spec import CellSpec
from bench.store import clock_file, manifest
from bench.store.fingerprint import clock_fingerprint
from bench.store.frame import load
from bench.store.result import Result, Row
from bench.store.statuses import Status
from models.registry import load_file

tiny = load_file(Path(__file__).with_name("tiny_cells.py"))
QUICK = ClockSettings(rounds=2, steps=4, seconds=0, warmup_steps=1)
FACTS = {"device": "a device", "driver": None, "cuda": None, "torch": "2", "threads": 1}


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "machine", lambda accelerator, threads: dict(FACTS))


@pytest.fixture
def cells(tmp_path: Path) -> list[CellSpec]:
    """Two methods, the baseline with two seeds."""
    text = tiny.write_text(tmp_path)
    return [
        tiny.spec(text, "transformer_xl"),
        tiny.spec(text, "expire_span"),
        tiny.spec(text, "transformer_xl", seed=1),
    ]


@pytest.fixture
def study(tmp_path: Path, cells: list[CellSpec]) -> Path:
    folder = tmp_path / "study"
    tiny.finish(folder, cells)
    return folder


@pytest.fixture
def outcomes() -> list[str]:
    """The statuses of the methods that are measured next; ok after them."""
    return []


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, outcomes: list[str]) -> list[list[str]]:
    """What is measured, in place of measuring it."""
    calls: list[list[str]] = []

    def measure(study_dir: Path, label: str, specs: list[CellSpec], codes: Any, *_: Any) -> list[clock_file.Clocked]:
        calls.append([spec.id for spec in specs])
        return [clock_file.Clocked(spec.id, codes[spec.id], outcomes.pop(0) if outcomes else "ok") for spec in specs]

    monkeypatch.setattr(phase, "_measure", measure)
    return calls


def test_it_measures_time_memory_and_the_trainers_overhead_of_every_method(study: Path, cells: list[CellSpec]) -> None:
    before = manifest.cell_folder(study, cells[0].id).result_path.read_bytes()
    said: list[str] = []
    (path,) = clock_study(study, cells, QUICK, tell=said.append)
    assert path == study / "clock" / "bytes-corpus.json"
    file = clock_file.read(path)
    assert (file.task_label, file.provenance, file.settings["rounds"]) == ("bytes-corpus", FACTS, 2)
    assert [method.cell for method in file.methods] == [cells[0].id, cells[1].id], "one cell for each method"
    assert [method.status for method in file.methods] == ["ok", "ok"], [method.reason for method in file.methods]
    xl, expire = ({(row.metric, row.split): row for row in method.rows} for method in file.methods)
    shared = {
        *[(name, "train") for name in ("time_per_batch", "wall_time_per_batch", "tokens_per_second", "first_step")],
        *[(f"memory_{name}", split) for name in ("static", "extra", "peak", "resident") for split in SPLITS],
    }
    assert set(xl) == shared | {("trainer_overhead", "train")}
    assert set(expire) == shared | {("time_to_transformer_xl", "train")}
    time = xl["time_per_batch", "train"]
    assert time.value is not None
    samples = [ms for turn in file.methods[0].samples["step"] or [] for ms in turn or []]
    assert len(samples) == time.n == 4
    assert time.value is not None
    assert time.p50 == time.value
    assert min(samples) <= time.value <= max(samples) + 1e-3
    assert time.context["parity"] == "4 golden files"
    assert time.context["rounds"] == 2
    assert not time.context["rebuilt_each_round"]
    assert time.context["memory_steady"]
    assert xl["tokens_per_second", "train"].value == pytest.approx(1000 * 4 * 8 / time.value)
    assert xl["memory_peak", "train"].context["batch_size"] == 4
    assert xl["memory_peak", "validation"].context["batch_size"] == 2
    assert [len(turn or []) for turn in file.methods[0].samples["trainer"]] == [2, 2]
    assert said[0] == "bytes-corpus: time: preparing transformer_xl"
    assert manifest.cell_folder(study, cells[0].id).result_path.read_bytes() == before

    table = load(study)
    assert not table.attrs["damaged"]
    rows = table[table["metric"] == "time_per_batch"]
    assert list(rows["method"]) == ["transformer_xl", "expire_span"]
    assert list(rows["device"]) == ["a device"] * 2
    assert list(rows["status"]) == ["ok", "ok"]
    assert list(rows["fingerprint"]) == [method.fingerprint for method in file.methods]
    assert list(rows["value"]) == [time.value, expire["time_per_batch", "train"].value]
    assert table["cell"].iloc[0] == cells[0].id
    assert table["metric"].iloc[0] == "bpb", "a cell's own rows come first"


SPLITS = ("train", "validation")


def test_what_has_been_measured_is_not_measured_again(
    study: Path, cells: list[CellSpec], measured: list[list[str]]
) -> None:
    said: list[str] = []
    (path,) = clock_study(study, cells, QUICK)
    assert clock_study(study, cells, QUICK, tell=said.append) == []
    assert said == ["bytes-corpus: measured before"]
    assert len(measured) == 1
    assert clock_study(study, cells, QUICK, again=True) == [path]
    assert len(measured) == 2


@pytest.mark.parametrize("change", ["settings", "code", "cells", "device", "torch", "threads", "damage"])
def test_what_has_changed_is_measured_again_and_the_earlier_file_is_kept(
    study: Path, cells: list[CellSpec], measured: list[list[str]], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (path,) = clock_study(study, cells, QUICK)
    settings = QUICK
    if change == "settings":
        settings = ClockSettings(rounds=3, steps=4, seconds=0, warmup_steps=1)
    elif change == "code":
        monkeypatch.setattr(phase, "clock_fingerprint", lambda spec: "other")
    elif change == "cells":
        cells = [*cells, tiny.spec(cells[0].task_settings["path"], "compressive")]
        tiny.finish(study, cells[3:])
    elif change in FACTS:
        monkeypatch.setattr(phase, "machine", lambda accelerator, threads: {**FACTS, change: "another"})
    else:
        path.write_text("{")
    before = path.read_bytes()
    assert clock_study(study, cells, settings) == [path]
    assert [len(call) for call in measured] == [2, 3 if change == "cells" else 2]
    assert [kept.read_bytes() for kept in (path.parent / "earlier").iterdir()] == [before]
    assert clock_study(study, cells, settings) == []
    clock_study(study, cells, settings, again=True)
    assert sorted(kept.name for kept in (path.parent / "earlier").iterdir()) == [
        "bytes-corpus.1.json",
        "bytes-corpus.2.json",
    ]
    assert len(clock_file.read_all(study)[0]) == 1, "earlier files are no part of the study's rows"


@pytest.mark.parametrize("name", ["rounds", "steps", "seconds", "warmup_steps"])
def test_a_longer_measurement_is_enough_and_a_shorter_one_is_not(
    study: Path, cells: list[CellSpec], measured: list[list[str]], name: str
) -> None:
    clock_study(study, cells, QUICK)
    longer = replace(QUICK, **{name: getattr(QUICK, name) + 1})
    (path,) = clock_study(study, cells, longer)
    before = path.read_bytes()
    assert clock_study(study, cells, QUICK) == []
    assert len(measured) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(("status", "again"), [("error", True), ("timeout", True), ("oom", False)])
def test_what_failed_for_a_reason_that_may_pass_is_measured_again(
    study: Path, cells: list[CellSpec], measured: list[list[str]], outcomes: list[str], status: str, again: bool
) -> None:
    outcomes[:] = ["ok", status]
    (path,) = clock_study(study, cells, QUICK)
    assert clock_study(study, cells, QUICK) == ([path] if again else [])
    assert [method.status for method in clock_file.read(path).methods] == ["ok", "ok" if again else status]
    assert clock_study(study, cells, QUICK) == []


def test_each_method_that_could_not_be_measured_is_named_with_its_reason(study: Path, cells: list[CellSpec]) -> None:
    assert failures(study, cells) == []
    methods = [
        clock_file.Clocked(cells[0].id, "", "error", "differs from its golden files"),
        clock_file.Clocked(cells[1].id, "", "unsupported", "not on this device"),
        clock_file.Clocked("of another day", "", "oom"),
    ]
    clock_file.write(study, clock_file.ClockFile("bytes-corpus", {}, methods, {}, "now", 1.0))
    assert failures(study, cells) == [
        "bytes-corpus: transformer_xl could not be measured: error, differs from its golden files",
        "bytes-corpus: of another day could not be measured: oom",
    ]


def test_a_studys_own_settings_are_those_noted_else_those_of_its_last_measurement(tmp_path: Path) -> None:
    assert settings_of(tmp_path, {}) == ClockSettings()
    for label, started, rounds in (("a", "2026-01-02", 7), ("b", "2026-01-01", 8)):
        file = clock_file.ClockFile(label, asdict(ClockSettings(rounds=rounds)), [], {}, started, 1.0)
        clock_file.write(tmp_path, file)
    assert settings_of(tmp_path, {}) == ClockSettings(rounds=7)
    noted = {"enabled": False, "rounds": 4, "steps": 12, "seconds": 1, "warmup_steps": 20, "of_tomorrow": 3}
    assert settings_of(tmp_path, {"clock": noted}) == ClockSettings(True, 4, 12, 1, 20)


def test_the_clock_waits_for_the_device_that_cells_name_likewise(
    study: Path, cells: list[CellSpec], measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def name(accelerator: str) -> str:
        taken.append(accelerator)
        return "cuda5"

    class Lock(DeviceLock):
        def have_alone(self, waiting: Any = None) -> None:
            taken.append(self.device)

    monkeypatch.setattr(phase, "device_name", name)
    monkeypatch.setattr(phase, "DeviceLock", Lock)
    clock_study(study, cells, QUICK)
    assert taken == ["cpu", "cuda5"]


def test_cells_without_weights_or_a_good_result_are_left_out(tmp_path: Path, measured: list[list[str]]) -> None:
    text = tiny.write_text(tmp_path)
    cells = [
        tiny.spec(text, "transformer_xl"),
        tiny.spec(text, "transformer_xl", seed=1),
        tiny.spec(text, "expire_span"),
        tiny.spec(text, "compressive"),
        tiny.spec(text, "adaptive_span"),
    ]
    study = tmp_path / "study"
    tiny.finish(study, cells[:4], without_weights=("expire_span",))
    first, damaged = (manifest.cell_folder(study, cells[number].id) for number in (0, 3))
    first.write_result(Result(cells[0].id, Status.DIVERGED, "it did", attempt=1))
    damaged.result_path.write_text("{")
    assert [spec.id for spec in finished(study, cells)] == [cells[1].id]
    clock_study(study, cells, QUICK)
    assert measured == [[cells[1].id]]
    assert clock_study(tmp_path / "none", cells, QUICK) == []


def test_the_code_that_measures_is_the_clocks_and_the_methods(cells: list[CellSpec]) -> None:
    xl, expire, other_seed = (clock_fingerprint(cell.to_json()) for cell in cells)
    assert xl != expire
    assert xl == other_seed


def test_the_device_is_had_alone_while_it_is_measured_and_given_back(
    study: Path, cells: list[CellSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def is_locked() -> bool:
        with DeviceLock("cpu").path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    seen = []

    def measure(*_: Any) -> Any:
        seen.append(is_locked())
        raise KeyboardInterrupt

    monkeypatch.setattr(phase, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        clock_study(study, cells, QUICK)
    assert seen == [True]
    assert not is_locked()
    assert not (study / "clock").exists()


def test_what_could_not_be_measured_is_missing_with_its_status_and_reason(cells: list[CellSpec]) -> None:
    lost = Timed(rounds=[None, None], failure=Failure(Status.OOM, "out of memory"))
    full = {"static": 1.0, "peak": 3.0, "extra": 2.0}
    found = phase._clocked(
        cells[1], "code", {"expire_span": lost}, {"train": Failure(Status.OOM, "out of memory"), "validation": full}
    )
    assert (found.status, found.reason) == ("oom", "out of memory")
    rows = {(row.metric, row.split): row.value for row in found.rows}
    assert rows["time_per_batch", "train"] is None
    assert rows["memory_peak", "train"] is None
    assert rows["memory_peak", "validation"] == 3.0
    assert found.samples == {"step": [None, None]}


def test_a_clock_file_of_another_version_or_with_a_part_missing_is_damaged(tmp_path: Path) -> None:
    methods = [clock_file.Clocked("a", "f", "ok", rows=[Row("time_per_batch", 1.5, "ms", "train")])]
    whole = clock_file.ClockFile("x", {}, methods, {}, "now", 1.0)
    path = clock_file.write(tmp_path, whole)
    assert clock_file.read(path) == whole
    content = json.loads(path.read_text())
    for change in ({"version": 99}, {"methods": [{"cell": "a"}]}, {"methods": 3}, {"more": 1}):
        path.write_text(json.dumps(content | change))
        files, damaged = clock_file.read_all(tmp_path)
        assert files == []
        assert len(damaged) == 1
        assert "x.json is damaged" in damaged[0]
    assert clock_file.read_all(tmp_path / "none") == ([], [])


def test_the_machine_is_found_out_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    facts = phase.machine("cpu", 3)
    assert facts["threads"] == 3
    assert facts["device"] == facts["cpu"]
    assert facts["driver"] is None
