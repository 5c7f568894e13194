"""`python -m bench clock`: what the last line says, what is refused, exit codes; and the clock within `bench run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.clock import comparison, phase
from bench.clock.comparison import Entry, Shape, compare, entries, spec_of
from bench.clock.contestant import Failure, Ready, Turn
from bench.clock.rounds import Timed
from bench.clock.settings import ClockSettings
from bench.store import clock_file, manifest
from bench.store.result import Row
from bench.store.statuses import Status
from models.errors import SettingsError, Unsupported
from models.registry import METHODS, load_file

tiny = load_file(Path(__file__).parent / "clock" / "tiny_cells.py")
TINY = [
    *("--batch", "2", "--heads", "2", "--head-dim", "8", "--block", "16", "--layers", "1"),
    *("--rounds", "2", "--steps", "2", "--seconds", "0", "--warmup-steps", "1", "--accelerator", "cpu"),
]
KEYS = {
    *("method", "impl", "context", "alive", "time_ms_p50", "time_ms_p20", "time_ms_p80"),
    *("peak_bytes", "state_bytes", "status"),
}
FACTS = {"device": "a device", "driver": None, "cuda": None}


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_plugins", {})
    monkeypatch.setattr(phase, "machine", lambda accelerator, threads: dict(FACTS))


def last_line(printed: str) -> dict[str, Any]:
    found = json.loads(printed.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["token", "layer"])
def test_impls_are_compared_with_the_reference(scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["clock", *TINY, "--scope", scope, "--impls", "reference,fast", "--contexts", "64"]
    assert main([*words, "--methods", "transformer_xl,expire_span"]) == 0
    printed = capsys.readouterr().out
    assert " to ref " in printed
    rows = {(row["method"], row["impl"]): row for row in last_line(printed)["rows"]}
    for method in ("transformer_xl", "expire_span"):
        reference, fast = rows[method, "reference"], rows[method, "fast"]
        assert (reference["status"], fast["status"]) == ("ok", "ok"), reference["reason"] + fast["reason"]
        assert reference["time_to_reference"] is None
        assert fast["time_to_reference"] > 0
        assert fast["slots_alive"] == reference["slots_alive"]
        assert fast["proof"].endswith("the reference on the CPU")


@pytest.mark.slow
def test_methods_are_compared_at_one_size_and_those_that_forget_nothing_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept.json"
    words = ["clock", *TINY, "--methods", "transformer_xl,expire_span", "--contexts", "64", "--alive", "1,0.25"]
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    said = last_line(printed)
    assert said["device"] == "a device"
    rows = {(row["method"], row["alive"]): row for row in said["rows"]}
    assert list(rows) == [("transformer_xl", 1), ("expire_span", 1), ("expire_span", 0.25)]
    assert all(set(row) >= KEYS and row["context"] == 64 for row in said["rows"])
    for row in rows.values():
        assert row["status"] == "ok", row["reason"]
        assert 0 < row["time_ms_p20"] <= row["time_ms_p50"] <= row["time_ms_p80"]
        assert row["peak_bytes"] > 0
    whole, quarter = rows["expire_span", 1], rows["expire_span", 0.25]
    assert (whole["slots_alive"], quarter["slots_alive"]) == (64, 16)
    assert quarter["state_bytes"] < whole["state_bytes"]
    assert quarter["peak_bytes"] < whole["peak_bytes"]
    assert rows["transformer_xl", 1]["state_bytes"] == 64 * 16 * 4
    assert rows["transformer_xl", 1]["time_ratio"] is None
    assert quarter["time_ratio"] > 0
    assert quarter["steady"] is False, "one step of warm-up cannot show it"
    kept = json.loads(out.read_text())
    assert kept["shape"]["block"] == 16
    assert [len(turn) for turn in kept["rows"][0]["samples_ms"]] == [1, 1]
    assert "samples_ms" not in said["rows"][0]
    assert "expire_span" in printed.splitlines()[-2], "a table for people comes first"


@pytest.mark.slow
def test_contexts_take_turns_with_one_number_of_slots_alive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kept.json"
    words = ["clock", *TINY, "--methods", "expire_span", "--impls", "fast", "--contexts", "64,128", "--alive", "32"]
    assert main([*words, "--together", "--scope", "layer", "--out", str(out)]) == 0
    first, second = last_line(capsys.readouterr().out)["rows"]
    assert (first["alive"], second["alive"]) == (0.5, 0.25)
    assert (first["remembers"], second["remembers"]) == ("32 slots", "32 slots")
    assert first["slots_alive"] == second["slots_alive"] == 32
    assert first["time_to_first"] is None
    assert second["time_to_first"] > 0
    kept = json.loads(out.read_text())
    assert kept["clock"]["together"] is True
    assert kept["rows"][1]["time_to_first"] == second["time_to_first"]


@pytest.mark.slow
def test_a_plugins_impl_that_is_wrong_has_an_error_and_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tiny.write_probe(tmp_path)
    plugin.write_text(plugin.read_text().replace("return Settings()", "return Settings(fault=1e-6)"))
    words = ["clock", *TINY, "--quiet", "--plugin", str(plugin), "--methods", "probe", "--impls", "reference,fast"]
    assert main([*words, "--contexts", "16", "--scope", "layer"]) == 1
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    right, wrong = last_line(printed)["rows"]
    assert (right["impl"], right["status"], right["slots_alive"]) == ("reference", "ok", 1)
    assert (wrong["impl"], wrong["status"], wrong["time_ms_p50"]) == ("fast", "error", None)
    assert wrong["reason"].startswith("probe (fast) on cpu differs from the reference in outputs of block 0")


@pytest.mark.slow
def test_one_that_hangs_has_no_more_than_the_time_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tiny.write_probe(tmp_path)
    plugin.write_text(plugin.read_text().replace("return Settings()", "return Settings(deed='hang', at=1)"))
    words = ["clock", *TINY, "--quiet", "--plugin", str(plugin), "--methods", "probe", "--contexts", "16"]
    assert main([*words, "--scope", "layer", "--time-limit", "1"]) == 1
    (row,) = last_line(capsys.readouterr().out)["rows"]
    assert (row["status"], row["reason"], row["time_ms_p50"]) == ("timeout", "no answer within 1 s", None)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--alive", "100", "--contexts", "64,128"], "--alive: 100 slots are more than the 64 of the smallest context"),
        (["--methods", "expire_spam"], "--methods: there is no method 'expire_spam' Did you mean expire_span?"),
        (["--impls", "turbo"], "--impls: none of these methods has an impl 'turbo'"),
        (["--contexts", "many"], "--contexts: 'many' is not a list of whole numbers"),
        (["--contexts", "64,0"], "--contexts: 0 is no number of positions"),
        (["--alive", "0"], "--alive: 0 is neither a share nor a number of slots"),
        (["--alive", "1.5"], "--alive: 1.5 is neither a share nor a number of slots"),
        (["--alive", "nan"], "--alive: nan is neither a share nor a number of slots"),
        (["--precision", "8"], "--precision: '8' is not known"),
        (["--batch", "0"], "--batch: is 0"),
        (["--head-dim", "0"], "--head-dim: is 0"),
        (["--threads", "-1"], "--threads: is -1"),
        (["--time-limit", "0"], "--time-limit: is 0"),
        (["--time-limit", "inf"], "--time-limit: is inf"),
        (["--rounds", "0"], "clock.rounds: is 0"),
        (["--seconds", "-1"], "clock.seconds: is -1.0"),
        (["--methods", "compressive", "--block", "18"], "method.compressive.rate: the rate 4 does not divide"),
        (["--plugin", "none.py"], "--plugin: there is no file none.py"),
        (["none"], "runs/NAME: there is no study in none"),
        (["--tasks", "enwik8"], "--tasks: goes with a study only"),
    ],
)
def test_what_cannot_work_is_refused_with_key_and_remedy_before_anything_is_measured(
    flags: list[str], key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "compare", None)
    assert main(["clock", *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    message = said.err.removeprefix("bench clock: ").replace(". Did", " Did")
    assert message.startswith(key), message
    assert len(message.strip()) > len(key), "and what to do"


@pytest.mark.parametrize(
    "flags", [["--contexts", "64"], ["--alive", "0.5"], ["--scope", "layer"], ["--block", "8"], ["--time-limit", "9"]]
)
def test_flags_that_a_study_says_itself_are_refused_beside_one(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clock", str(tmp_path), *flags]) == 2
    assert f"{flags[0]}: does not go with a study" in capsys.readouterr().err


@pytest.mark.slow
def test_a_size_that_a_method_cannot_have_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clock", *TINY, "--methods", "adaptive_span", "--contexts", "64", "--alive", "1,0.25"]) == 0
    whole, quarter = last_line(capsys.readouterr().out)["rows"]
    assert (whole["status"], quarter["status"]) == ("ok", "unsupported")
    assert quarter["reason"] == "16 positions are not longer than the ramp of 32"
    assert {quarter[key] for key in KEYS if "time" in key or "bytes" in key} == {None}, "missing, not 0"


@pytest.mark.parametrize(("device", "auto"), [("cpu", "fast"), ("cuda", "reference")])
def test_combinations_are_all_asked_for_once_and_auto_is_the_devices_impl(device: str, auto: str) -> None:
    methods, impls = ["expire_span", "adaptive_span"], ["auto", auto]
    found = entries(methods, impls, [48, 64], [1.0, 0.5, 1.0], block=16, device=device)
    assert [(entry.context, entry.method, entry.impl, entry.alive) for entry in found] == [
        (context, method, auto, alive)
        for context in (48, 64)
        for method in ("expire_span", "adaptive_span")
        for alive in (1.0, 0.5)
    ]
    assert found[-1].name == f"adaptive_span, {auto}, 64 positions, 50 % alive"


@pytest.mark.parametrize("alive", [[1.0, 0.5, 0.1], [0.1]])
def test_a_method_of_which_no_share_can_be_forgotten_is_measured_once_and_whole(
    tmp_path: Path, alive: list[float]
) -> None:
    """Whether it refuses shares, as three of ours, or passes them over, as the plugin: no row may claim one."""
    METHODS.add_plugin(tiny.write_probe(tmp_path))
    found = entries(METHODS.names(), ["auto"], [256], alive, block=16)
    by_method = {entry.method: [one.alive for one in found if one.method == entry.method] for entry in found}
    assert "probe" in by_method
    for method, shares in by_method.items():
        assert shares == (alive if method in ("adaptive_span", "expire_span") else [1.0])


def test_the_cell_of_an_entry_has_the_sizes_that_were_asked_for(tmp_path: Path) -> None:
    shape = Shape(batch=3, heads=2, head_dim=8, block=16, layers=5, threads=2, accelerator="cpu")
    spec = spec_of(Entry("expire_span", "reference", 64, 0.5, "50 %"), shape)
    assert (spec.train["batch_size"], spec.train["block_length"], spec.backbone["layers"]) == (3, 16, 5)
    assert (spec.backbone["width"], spec.backbone["head_dim"], spec.threads) == (16, 8, 2)
    assert spec_of(Entry("expire_span", "reference", 64, 0.5, "50 %"), Shape(scope="layer")).backbone["layers"] == 1
    plugin = tiny.write_probe(tmp_path)
    plugin.write_text(plugin.read_text().replace("def sized(", "def another_size("))
    METHODS.add_plugin(plugin)
    with pytest.raises(Unsupported, match="probe has no function `sized`"):
        spec_of(Entry("probe", "reference", 64, 1.0, "100 %"), shape, [tiny.entry_of(plugin)])


def test_ratios_are_to_transformer_xl_at_the_same_context(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"transformer_xl": 10.0, "expire_span": 5.0}

    def run(orders: dict[str, Any], *_: Any) -> dict[str, Timed]:
        ready = Ready(
            1.0, 70.0, "a golden file", True, {"slots_alive": 9.0, "slots_allocated": 9.0, "state_bytes": 3.0}
        )
        after = {"slots_alive": 4.0, "slots_allocated": 8.0}
        return {
            name: Timed(
                ready,
                [Turn([times[order.spec["method"]] * len(name)] * 2, 44.0, after)] * 3,
                rebuilt=order.spec["method"] == "expire_span",
            )
            for name, order in orders.items()
        }

    monkeypatch.setattr(comparison, "run", run)
    passed = {"static": 1.0, "extra": 2.0, "peak": 3.0}

    def ask_each(orders: dict[str, Any], *_: Any) -> dict[str, Any]:
        return {
            name: Failure(Status.OOM, "out of memory") if order.spec["method"] == "expire_span" else passed
            for name, order in orders.items()
        }

    monkeypatch.setattr(comparison, "ask_each", ask_each)
    asked = entries(["transformer_xl", "expire_span"], ["auto"], [64, 128], [1.0], block=16)
    found = compare(asked, Shape(block=16), ClockSettings(rounds=3))
    for xl, expire in (found[:2], found[2:]):
        assert xl.context == expire.context
        assert (xl.time_ratio, xl.status, xl.peak_bytes, xl.static_bytes) == (None, "ok", 2, 1)
        assert xl.time_ms_p50 is not None
        assert expire.time_ms_p50 is not None
        assert expire.time_ratio == pytest.approx(expire.time_ms_p50 / xl.time_ms_p50)
        assert (expire.status, expire.reason, expire.peak_bytes) == ("oom", "out of memory", None)
        assert (expire.time_ratio_low, expire.time_ratio_high) == (None, None), "three rounds have no interval"
        assert (xl.rebuilt, expire.rebuilt) == (False, True)
        assert (xl.steps, xl.wall_ms, xl.first_ms, xl.proof) == (6, 22.0, 70.0, "a golden file")
        assert (xl.slots_alive, xl.slots_alive_last, xl.slots_allocated_last) == (9, 4, 8)
        assert xl.memory_steady is False


@pytest.mark.parametrize(
    ("contexts", "alive", "pairs"),
    [
        ([64, 256], [1.0, 0.25], {"256, 100 %": "64, 100 %", "256, 25 %": "64, 25 %"}),
        ([64, 128], [1.0, 0.5], {"128, 100 %": "64, 100 %", "128, 50 %": "64, 50 %"}),
        ([64, 256], [16.0, 64.0], {"256, 16 slots": "64, 16 slots", "256, 64 slots": "64, 64 slots"}),
        (
            [64, 256],
            [1.0, 64.0, 16.0],
            {"256, 100 %": "64, 100 %", "256, 64 slots": "64, 100 %", "256, 16 slots": "64, 16 slots"},
        ),
    ],
)
def test_a_ratio_between_contexts_is_to_what_was_asked_for_alike(
    contexts: list[int], alive: list[float], pairs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = entries(["expire_span"], ["fast"], contexts, alive, block=16)
    times = {entry.name: 2.0**number for number, entry in enumerate(asked)}
    rounds: list[set[str]] = []

    def run(orders: dict[str, Any], *_: Any) -> dict[str, Timed]:
        rounds.append(set(orders))
        ready = Ready(1.0, 70.0, "a golden file", True, {})
        return {name: Timed(ready, [Turn([times[name]] * 2, 44.0, {})] * 6) for name in orders}

    monkeypatch.setattr(comparison, "run", run)
    passed = {"static": 1.0, "extra": 2.0, "peak": 3.0}
    monkeypatch.setattr(comparison, "ask_each", lambda orders, *_: {name: passed for name in orders})
    found = compare(asked, Shape(block=16), ClockSettings(rounds=6), together=True)
    assert rounds == [set(times)], "all in the same rounds"
    names = {f"{one.context}, {one.remembers}": entry.name for one, entry in zip(found, asked, strict=True)}
    ratios = {f"{one.context}, {one.remembers}": one.time_to_first for one in found if one.time_to_first is not None}
    assert ratios == {one: times[names[one]] / times[names[other]] for one, other in pairs.items()}
    compare(asked, Shape(block=16), ClockSettings(rounds=6))
    assert len(rounds) == 3, "contexts one after the other"


@pytest.mark.slow
def test_a_study_is_measured_again_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [tiny.spec(tiny.write_text(tmp_path), "transformer_xl")]
    study = tmp_path / "study"
    tiny.finish(study, cells)
    folder = manifest.cell_folder(study, cells[0].id)
    result = folder.result()
    assert result is not None
    folder.write_result(replace(result, rows=[*result.rows, Row("state_bytes", 768.0, "bytes", "test")]))
    words = ["clock", str(study), "--rounds", "2", "--steps", "2", "--seconds", "0"]
    for _ in range(2):
        assert main(words) == 0
        said = last_line(capsys.readouterr().out)
        (row,) = said["rows"]
        assert said["device"] == "a device"
        assert set(row) >= KEYS
        assert (row["task"], row["method"], row["status"]) == ("bytes-corpus", "transformer_xl", "ok")
        assert row["time_ms_p50"] > 0
        assert row["peak_bytes"] > 0
        assert row["state_bytes"] == 768
    assert len(list((study / "clock" / "earlier").iterdir())) == 1
    assert main([*words, "--methods", "expire_span"]) == 2
    assert "--methods: cannot go with a study" in capsys.readouterr().err


def test_a_study_is_measured_again_for_as_long_as_it_was_but_for_what_flags_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, asked = tmp_path / "study", []
    own = ClockSettings(rounds=4, steps=12, seconds=1, warmup_steps=20)
    manifest.merge(study, [], command={"clock": vars(own)})

    def clock_study(study_dir: Path, cells: list[Any], settings: ClockSettings, **_: Any) -> list[Path]:
        asked.append(settings)
        return []

    monkeypatch.setattr(phase, "clock_study", clock_study)
    for flags in ([], ["--rounds", "7"], ["--seconds", "0", "--warmup-steps", "9"]):
        main(["clock", str(study), *flags])
    assert asked == [own, replace(own, rounds=7), replace(own, seconds=0.0, warmup_steps=9)]


def test_one_task_of_a_study_is_measured_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, asked = tmp_path / "study", []
    text = tiny.spec(tiny.write_text(tmp_path), "transformer_xl")
    acts = replace(text, task="corridor", task_label="corridor-3to4")
    manifest.merge(study, [text, acts])

    def clock_study(study_dir: Path, cells: list[Any], settings: ClockSettings, **_: Any) -> list[Path]:
        asked.append([cell.task for cell in cells])
        return []

    monkeypatch.setattr(phase, "clock_study", clock_study)
    for tasks in ("corridor", "corridor-3to4", f"corridor,{text.task}"):
        main(["clock", str(study), "--tasks", tasks])
    assert asked == [["corridor"], ["corridor"], [text.task, "corridor"]]
    capsys.readouterr()
    assert main(["clock", str(study), "--tasks", "coridor"]) == 2
    said = capsys.readouterr().err
    assert "--tasks:" in said
    assert "has no task 'coridor'. Did you mean corridor" in said


def test_a_comparison_locks_the_device_that_cells_name_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import devices
    from bench.executors.device_lock import DeviceLock

    class Reached(BaseException):
        """What comes after the lock is another test's."""

    def have_alone(self: DeviceLock, waiting: Any) -> None:
        assert self.device == "cuda5"
        raise Reached

    monkeypatch.setattr(devices, "device_name", lambda accelerator: {"auto": "cuda5"}[accelerator])
    monkeypatch.setattr(DeviceLock, "have_alone", have_alone)
    with pytest.raises(Reached):
        main(["clock", "--methods", "transformer_xl", "--quiet"])


def test_a_study_without_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [tiny.spec(tiny.write_text(tmp_path), "transformer_xl")]
    tiny.finish(tmp_path / "study", cells, without_weights=("transformer_xl",))
    assert main(["clock", str(tmp_path / "study")]) == 2
    assert "is done and has its weights" in capsys.readouterr().err


CONFIG = """
about: a study of one cell, with a clock that would take a minute
clock: {{rounds: 1000, steps: 1000, seconds: 60, warmup_steps: 2}}
tasks:
  enwik8:
    task: {{path: {text}}}
    backbone: {{layers: 1, width: 16, feedforward: 16, heads: 2}}
    train: {{steps: 2, batch_size: 2, block_length: 8, validate_every: 2, evaluation_batch_size: 2}}
    trainer: {{accelerator: cpu}}
    methods:
      transformer_xl: {{memory_length: 8}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "timed.yaml"
    path.write_text(CONFIG.format(text=tiny.write_text(tmp_path)))
    return path


def write_clock_file(study: Path, cell: str, status: str) -> Path:
    methods = [clock_file.Clocked(cell, "", status, "for a reason")]
    return clock_file.write(study, clock_file.ClockFile("bytes-corpus", {}, methods, FACTS, "now", 1.0))


@pytest.mark.parametrize(
    ("interrupted", "status", "code"),
    [(True, "ok", 130), *((False, status, 0) for status in ("ok", "unsupported"))]
    + [(False, status, 1) for status in ("error", "oom", "timeout")],
)
def test_run_measures_after_its_cells_and_an_interrupt_leaves_the_report_for_later(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupted: bool,
    status: str,
    code: int,
) -> None:
    from bench.runner import Summary

    order: list[str] = []

    def run_study(study_dir: Path, cells: list[Any], command: dict[str, Any], **_: Any) -> Summary:
        order.append("cells")
        manifest.merge(study_dir, cells, command=command)
        return Summary(study_dir.name, len(cells), {"ok": len(cells)})

    def clock_study(study_dir: Path, cells: list[Any], settings: ClockSettings, **_: Any) -> list[Path]:
        assert (len(cells), settings.rounds) == (1, 1000)
        assert manifest.read(study_dir).command["clock"] == vars(settings)
        order.append("clock")
        if interrupted:
            raise KeyboardInterrupt
        return [write_clock_file(study_dir, cells[0].id, status)]

    def build_report(study_dir: Path) -> tuple[str, str]:
        order.append("report")
        return "page.md", "the table"

    monkeypatch.setattr("bench.runner.run_study", run_study)
    monkeypatch.setattr(phase, "clock_study", clock_study)
    monkeypatch.setattr("bench.commands.run.build_report", build_report)
    words = ["run", "--config", str(config), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(words) == code
    assert order == ["cells", "clock"] if interrupted else ["cells", "clock", "report"]
    report = None if interrupted else "page.md"
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    failure = f"bench run: clock: bytes-corpus: transformer_xl could not be measured: {status}, for a reason"
    assert (failure in printed.err) == (code == 1)
    assert said == {"study": "out", "cells": 1, "counts": {"ok": 1}, "report": report}
    order.clear()
    main([*words, "--set", "clock.enabled=false"])
    assert order == ["cells", "report"]


@pytest.mark.parametrize("setting", ["clock.rounds=0", "clock.seconds=-1", "clock.round=3", "memory_limit_gb=0"])
def test_settings_of_clock_and_memory_are_checked_before_any_cell(
    config: Path, tmp_path: Path, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--config", str(config), "--out", str(tmp_path / "out"), "--set", setting]) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_ctrl_c_while_it_measures_leaves_all_results_and_no_process(
    config: Path, tmp_path: Path, checkout: Path
) -> None:
    toys = load_file(Path(__file__).with_name("toy_studies.py"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bench", "run", "--config", str(config), "--out", str(out)]
    with toys.toy_study(out, []) as study:
        variables = {**os.environ, **dict([study._mark.split("=")])}
        runner = subprocess.Popen(
            command, cwd=checkout, env=variables, text=True, stdout=subprocess.PIPE, start_new_session=True
        )
        assert runner.stdout is not None
        while "time: round" not in (line := runner.stdout.readline()):
            assert line, "the clock did not begin"
        results = {path: path.read_bytes() for path in out.glob("cells/*/result.json")}
        assert len(results) == 1
        began = time.monotonic()
        os.killpg(runner.pid, signal.SIGINT)
        printed, _ = runner.communicate(timeout=60)
        assert runner.returncode == 130
        assert time.monotonic() - began < 30
        assert last_line(printed)["counts"] == {"ok": 1}
        assert {path: path.read_bytes() for path in out.glob("cells/*/result.json")} == results
        assert not (out / "clock").exists()
        toys.wait_for(lambda: not study.processes(), "the end of all processes")
    quick = ["clock.rounds=2", "clock.steps=2", "clock.seconds=0"]
    done = subprocess.run([*command, "--set", *quick], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in out.glob("cells/*/result.json")} == results
    assert "time and memory" in Path(last_line(done.stdout)["report"]).read_text()


def test_an_impl_that_nobody_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="--impls"):
        entries(["transformer_xl"], ["turbo"], [16], [1.0], block=16)
