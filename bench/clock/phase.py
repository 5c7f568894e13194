"""The clock phase of a study: after its cells, time and memory of every method of a task, side by side.

For each task one process per method, on the weights of its first finished cell, take turns under a lock on the device;
then each method's memory is measured in processes of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.clock import ratios
from bench.clock.contestant import Failure, Order
from bench.clock.rounds import Timed, ask_each, run
from bench.clock.settings import ClockSettings
from bench.devices import at_a_time, device_name
from bench.executors import fork_server
from bench.executors.device_lock import DeviceLock
from bench.spec import CellSpec
from bench.store import clock_file, manifest, provenance
from bench.store.clock_file import Clocked, ClockFile
from bench.store.damaged import DamagedFile
from bench.store.fingerprint import clock_fingerprint
from bench.store.result import Row
from bench.store.statuses import Status

BASELINE = "transformer_xl"
TRAINER = f"{BASELINE} in Lightning's Trainer"
"""The name of the baseline's second process; no method can be called so."""
_PASSING = (Status.ERROR, Status.TIMEOUT)
"""Of what may be gone the next time. What did not fit into memory will not fit then either."""
_EXPECTED = (Status.OK, Status.UNSUPPORTED)
_PASSES = {"train": "train memory", "validation": "evaluation memory"}
"""The memory passes of a method, by the split of the rows that come of them."""


def clock_study(
    study_dir: Path,
    specs: Sequence[CellSpec],
    settings: ClockSettings,
    *,
    again: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Measures what has not been measured yet, task by task.

    Args:
        study_dir: ``runs/<study>``.
        specs: the study's cells.
        settings: how long.
        again: measure even what has been measured for as long, of the same cells, by the same code, on the same device
            with the same PyTorch and threads, and without an error.
        tell: called with a line at each stage.

    Returns:
        the files written.
    """
    written = []
    for label in dict.fromkeys(spec.task_label for spec in specs):
        chosen = finished(study_dir, [spec for spec in specs if spec.task_label == label])
        if not chosen:
            continue
        accelerator = str(chosen[0].trainer.get("accelerator", "auto"))
        facts = machine(accelerator, chosen[0].threads)
        codes = {spec.id: clock_fingerprint(spec.to_json()) for spec in chosen}
        if not again and _is_measured(study_dir, label, codes, settings, facts):
            tell(f"{label}: measured before")
            continue
        began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        lock = DeviceLock(device_name(accelerator))
        try:
            lock.have_alone(lambda: tell("waiting for the device: cells are running on it"))
            methods = _measure(study_dir, label, chosen, codes, settings, tell)
        finally:
            lock.release()
        measured = ClockFile(label, asdict(settings), methods, facts, started, round(time.monotonic() - began, 3))
        written.append(clock_file.write(study_dir, measured))
    return written


def finished(study_dir: Path, specs: Sequence[CellSpec]) -> list[CellSpec]:
    """For each method of a task, its first cell that is ok and whose weights are there."""
    found: dict[str, CellSpec] = {}
    for spec in specs:
        folder = manifest.cell_folder(study_dir, spec.id)
        if spec.expression in found or not (folder.checkpoints / "best.ckpt").exists():
            continue
        try:
            result = folder.result()
        except DamagedFile:
            continue
        if result is not None and result.status is Status.OK:
            found[spec.expression] = spec
    return list(found.values())


def settings_of(study_dir: Path, recorded: Mapping[str, Any]) -> ClockSettings:
    """How long a study's methods are measured.

    Args:
        study_dir: ``runs/<study>``.
        recorded: its manifest's ``command``.

    Returns:
        what `bench run` noted there; in a study that it ran before it noted them, the settings of the last
        measurement; where there is none, the defaults.
    """
    settings = recorded.get("clock")
    if not isinstance(settings, Mapping):
        files, _ = clock_file.read_all(study_dir)
        settings = max(files, key=lambda file: file.started).settings if files else {}
    known = {field.name: settings[field.name] for field in fields(ClockSettings) if field.name in settings}
    return replace(ClockSettings(**known), enabled=True)


def failures(study_dir: Path, specs: Sequence[CellSpec]) -> list[str]:
    """A line for each method that the study's clock files have no time or memory of; none for unsupported ones."""
    names = {spec.id: spec.expression for spec in specs}
    return [
        f"{file.task_label}: {names.get(method.cell, method.cell)} could not be measured: "
        f"{method.status}{f', {method.reason}' if method.reason else ''}"
        for file in clock_file.read_all(study_dir)[0]
        for method in file.methods
        if method.status not in _EXPECTED
    ]


def _is_measured(
    study_dir: Path, label: str, codes: Mapping[str, str], settings: ClockSettings, facts: Mapping[str, Any]
) -> bool:
    try:
        measured = clock_file.read(clock_file.path_of(study_dir, label))
    except (FileNotFoundError, DamagedFile):
        return False
    return (
        {method.cell: method.fingerprint for method in measured.methods} == dict(codes)
        and not any(method.status in _PASSING for method in measured.methods)
        and all(measured.settings.get(name, 0) >= value for name, value in asdict(settings).items())
        and all(measured.provenance.get(name) == facts.get(name) for name in ("device", "torch", "threads"))
    )


def machine(accelerator: str, threads: int) -> dict[str, Any]:
    """What the machine is, found out in a process of its own: this one must not start CUDA."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=fork_server.start()) as pool:
        return pool.submit(_collect, accelerator, threads).result()


def _collect(accelerator: str, threads: int) -> dict[str, Any]:
    import torch

    del torch  # loaded, so that the device can be asked
    return provenance.collect(accelerator, threads)


def _measure(
    study_dir: Path,
    label: str,
    specs: Sequence[CellSpec],
    codes: Mapping[str, str],
    settings: ClockSettings,
    tell: Callable[[str], None],
) -> list[Clocked]:
    orders = {spec.expression: _order(study_dir, spec, "step", settings) for spec in specs}
    if BASELINE in orders:
        baseline = next(spec for spec in specs if spec.expression == BASELINE)
        orders[TRAINER] = _order(study_dir, baseline, "trainer", settings)
    timed = run(orders, settings, lambda line: tell(f"{label}: time: {line}"))
    passes = {
        f"{spec.expression}, {split}": _order(study_dir, spec, what, settings)
        for spec in specs
        for split, what in _PASSES.items()
    }
    room = at_a_time(str(specs[0].trainer.get("accelerator", "auto")), specs[0].threads)
    found = ask_each(passes, room, lambda name: tell(f"{label}: memory: {name}"))
    return [
        _clocked(spec, codes[spec.id], timed, {split: found[f"{spec.expression}, {split}"] for split in _PASSES})
        for spec in specs
    ]


def _order(study_dir: Path, spec: CellSpec, what: str, settings: ClockSettings) -> Order:
    checkpoint = manifest.cell_folder(study_dir, spec.id).checkpoints / "best.ckpt"
    return Order(spec.to_json(), what, Path(os.path.abspath(checkpoint)), warmup_steps=settings.warmup_steps)


def _clocked(spec: CellSpec, code: str, timed: Mapping[str, Timed], memory: Mapping[str, Any]) -> Clocked:
    own = timed[spec.expression]
    rows = time_rows(spec, own)
    samples = {"step": _samples(own)}
    baseline = timed.get(BASELINE)
    if baseline is not None and baseline is not own:
        rows += ratios.rows("time_to_transformer_xl", own, baseline)
    if spec.expression == BASELINE and TRAINER in timed:
        rows += ratios.overhead_rows(timed[TRAINER], own)
        samples["trainer"] = _samples(timed[TRAINER])
    failures = [own.failure] if own.failure else []
    for split, answer in memory.items():
        if isinstance(answer, Failure):
            failures.append(answer)
            rows.append(Row("memory_peak", None, "bytes", split, higher_is_better=False))
        else:
            rows += memory_rows(spec, split, answer)
    status = failures[0].status if failures else Status.OK
    reason = "; ".join(dict.fromkeys(failure.reason for failure in failures))
    return Clocked(spec.id, code, status.value, reason, rows, samples)


def _samples(timed: Timed) -> list[list[float] | None]:
    return [None if turn is None else [round(ms, 4) for ms in turn.samples_ms] for turn in timed.rounds]


def time_rows(spec: CellSpec, timed: Timed) -> list[Row]:
    """A method's times; where there are none, a row that says so."""
    samples = [ms for turn in timed.rounds if turn is not None for ms in turn.samples_ms]
    if timed.ready is None or not samples:
        return [Row("time_per_batch", None, "ms", "train", higher_is_better=False)]
    walls = sum(turn.wall_ms for turn in timed.rounds if turn is not None) / len(samples)
    context = {
        "rounds": sum(turn is not None for turn in timed.rounds),
        "steady": timed.ready.steady,
        "rebuilt_each_round": timed.rebuilt,
        "memory_steady": None if timed.ready.acts else timed.memory_steady,  # an agent's begins anew in each episode
        "parity": timed.ready.proof,
        "batch_size": spec.train["batch_size"],
        "block_length": spec.train["block_length"],
    }
    p20, p50, p80 = ratios.percentiles(samples)
    if timed.ready.acts:
        per_step, what = spec.train["batch_size"], "episodes"
    else:
        # A task of documents has their length among its settings, and a step reads whole ones.
        read = spec.task_settings.get("document_tokens", spec.train["block_length"])
        per_step, what = spec.train["batch_size"] * read, "tokens"
    return [
        Row("time_per_batch", p50, "ms", "train", len(samples), p20, p50, p80, False, context),
        Row("wall_time_per_batch", walls, "ms", "train", len(samples), higher_is_better=False, context=context),
        Row(f"{what}_per_second", 1000 * per_step / p50, f"{what}/s", "train", len(samples), higher_is_better=True),
        Row("first_step", timed.ready.first_ms, "ms", "train", 1, higher_is_better=False),
    ]


_MEMORY = {
    "static": ("memory_static", "weights, and in training gradients and optimiser"),
    "extra": ("memory_extra", "peak over static"),
    "peak": ("memory_peak", "PyTorch's allocator at its worst moment"),
    "reserved": ("memory_reserved", "held by PyTorch's allocator"),
    "retries": ("allocator_retries", "how often the allocator gave its cache back"),
    "resident": ("memory_resident", "the process's peak resident size"),
}


def memory_rows(spec: CellSpec, split: str, figures: Mapping[str, float]) -> list[Row]:
    """A memory pass's figures as rows."""
    batch = "batch_size" if split == "train" else "evaluation_batch_size"
    context = {"batch_size": spec.train[batch], "block_length": spec.train["block_length"]}
    return [
        Row(
            _MEMORY[name][0],
            value,
            "retries" if name == "retries" else "bytes",
            split,
            higher_is_better=False,
            context={**context, "what": _MEMORY[name][1]},
        )
        for name, value in figures.items()
    ]
