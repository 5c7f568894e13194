"""A process of the clock: holds one workload and works only when it is told to, so that one process runs at a time.

It speaks with the coordinator (`rounds.py`) over a pipe, one answer to each word. What goes wrong becomes its answer,
with a status, and ends it.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.store.statuses import Status


@dataclass(frozen=True)
class Order:
    """What a process of the clock is to hold. Everything in it can be pickled.

    Args:
        spec: the cell's, as JSON data.
        what: ``step`` (a training step), ``trainer`` (the same in Lightning's Trainer), ``layer`` (one layer), or
            ``train memory``, ``layer memory``, ``evaluation memory`` (a memory pass).
        checkpoint: the cell's best.ckpt; None for initial weights.
        alive: see `workload.TrainingStep`.
        warmup_steps: after how many steps timing may begin at the latest.
        environment: the environment variables to run with.
    """

    spec: dict[str, Any]
    what: str
    checkpoint: Path | None = None
    alive: float | None = None
    warmup_steps: int = 60
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """The answer to ``prepare``.

    Args:
        step_ms: how long a step takes about.
        first_ms: the first step, with whatever is compiled in it.
        proof: what the implementation was checked against.
        steady: whether step times had become steady when warm-up ended.
        held: what the memory holds when timing begins, as `Backbone.memory` says it.
        acts: whether a step is a batch of episodes, not a block of tokens.
    """

    step_ms: float
    first_ms: float
    proof: str
    steady: bool
    held: dict[str, float]
    acts: bool = False


@dataclass(frozen=True)
class Turn:
    """The answer to a turn.

    Args:
        samples_ms: each step's time.
        wall_ms: the wall time of all of it, input included.
        held: what the memory holds at its end.
    """

    samples_ms: list[float]
    wall_ms: float
    held: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """The answer of a process that could not go on."""

    status: Status
    reason: str


def enter(order: Order, coordinator: Connection) -> None:
    """The process's first function."""
    from bench.executors.process import stand_alone, use_threads

    stand_alone()
    os.environ.clear()
    os.environ.update(order.environment)
    _be_silent()
    try:
        use_threads(int(order.spec["threads"]))
        _serve(order, coordinator)
    except (EOFError, BrokenPipeError):
        pass
    except Exception as error:
        coordinator.send(failure(error))
    coordinator.close()
    os.kill(os.getpid(), signal.SIGKILL)  # at once: there is nothing to tidy up


def _be_silent() -> None:
    """Sends all output to nowhere, that of C++ too: the profiler's notes would stand among the coordinator's lines."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process


def failure(error: Exception) -> Failure:
    """An exception as an answer."""
    from bench.clock.gate import ParityMissed
    from bench.out_of_memory import is_out_of_memory
    from models.errors import SettingsError, Unsupported

    if is_out_of_memory(error):
        return Failure(Status.OOM, "out of memory")
    if isinstance(error, Unsupported):
        return Failure(Status.UNSUPPORTED, str(error))
    if isinstance(error, SettingsError | ParityMissed):
        return Failure(Status.ERROR, str(error))
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(Status.ERROR, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def _serve(order: Order, coordinator: Connection) -> None:
    from bench.checkpoints import load
    from bench.clock import device as devices
    from bench.clock import gate, memory
    from bench.clock.document_workload import DocumentEvaluationStep, DocumentTrainingStep
    from bench.clock.episode_workload import EpisodeEvaluationStep, EpisodeTrainingStep
    from bench.clock.workload import EvaluationStep, LayerStep, TokenStep, TrainingStep, Workload, refuse_endless_memory
    from bench.executors import memory_limit
    from bench.plugins import restore_plugins
    from bench.spec import CellSpec
    from models.registry import METHODS
    from tasks.registry import TASKS

    spec = CellSpec.from_json(order.spec)
    restore_plugins(spec.plugins, "spec.json")
    objective = TASKS.card(spec.task)["objective"]
    acts = objective == "episodes"
    if objective == "streams":  # episodes and documents end
        refuse_endless_memory(spec)
    device = devices.choose(str(spec.trainer.get("accelerator", "auto")))
    if device.type == "cpu" and (limit := memory_limit.default(1)) is not None:
        memory_limit.apply(limit)  # as for cells: who does not fit beside the others fails, and the system kills nobody
    weights = None if order.checkpoint is None else load(order.checkpoint)["model"]

    def make() -> Workload:
        if acts:
            kind = EpisodeEvaluationStep if order.what.startswith("evaluation") else EpisodeTrainingStep
            return kind(spec, weights, device)
        if objective == "documents" and not order.what.startswith(("layer", "token")):
            if order.what.startswith("evaluation"):
                return DocumentEvaluationStep(spec, weights, device)
            return DocumentTrainingStep(spec, weights, device, order.alive)
        if order.what.startswith("evaluation"):
            return EvaluationStep(spec, weights, device)
        if order.what.startswith("layer"):
            return LayerStep(spec, device, order.alive)
        if order.what.startswith("token"):
            return TokenStep(spec, device, order.alive)
        return TrainingStep(spec, weights, device, order.alive)

    if order.what.endswith("memory"):
        coordinator.send(memory.measure(make, device))
        return
    settings = METHODS.load(spec.method).Settings(**spec.method_settings)
    proof = gate.check(spec.method, spec.impl, settings, spec.train["block_length"], device)
    if order.what == "trainer":
        from bench.clock.through_trainer import serve

        serve(spec, weights, device, coordinator, proof, order.warmup_steps)
        return
    workload = make()
    workload.fill()
    first, step, steady = _warm_up(workload, device, order.warmup_steps)
    coordinator.send(Ready(step, first, proof, steady, workload.held(), acts))
    while (steps := coordinator.recv()) is not None:
        watch = devices.Stopwatch(device)
        for _ in range(steps):
            workload.fetch()
            watch.time(workload.step)
        samples_ms, wall_ms = watch.stop()
        coordinator.send(Turn(samples_ms, wall_ms, workload.held()))


_WINDOW, _CHANGE = 5, 0.1
"""Steps of which medians are compared, and by how much they may differ where times are steady."""


def _warm_up(workload: Any, device: Any, limit: int) -> tuple[float, float, bool]:
    """Steps until times are steady. Returns the first step's and a step's time in ms, and whether they became so."""
    from bench.clock.device import synchronise

    samples: list[float] = []
    steady = False
    while len(samples) < limit and not steady:
        workload.fetch()
        synchronise(device)
        begin = time.perf_counter()
        workload.step()
        synchronise(device)
        samples.append(1000 * (time.perf_counter() - begin))
        steady = is_steady(samples)
    return samples[0], statistics.median(samples[-_WINDOW:]), steady


def is_steady(samples: list[float]) -> bool:
    """Whether the medians of the last two windows of step times differ by less than a tenth."""
    if len(samples) < 2 * _WINDOW:
        return False
    before = statistics.median(samples[-2 * _WINDOW : -_WINDOW])
    return abs(statistics.median(samples[-_WINDOW:]) / before - 1) < _CHANGE
