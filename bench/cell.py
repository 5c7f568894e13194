"""Runs one cell in this process: builds the model, trains it, evaluates the best weights, and returns the result.

Needs torch, pytorch-lightning, numpy and the standard library alone. Nothing is timed here; the clock does that.
Settings come complete from the spec, so that the same spec gives the same cell anywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytorch_lightning as pl
import torch

from bench.cell_progress import Progress
from bench.checkpoints import Checkpoints, read_checkpoint
from bench.metrics_log import MetricsLog
from bench.out_of_memory import is_out_of_memory
from bench.plugins import restore_plugins
from bench.spec import CellSpec, TrainerSettings
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim, GivenUp
from bench.store.result import Result, Row
from bench.store.statuses import Status
from bench.task_data import check_data
from models import cost
from models.backbone import MEMORY_UNITS, Backbone, BackboneSettings, build
from models.errors import SettingsError, Unsupported
from models.registry import METHODS
from tasks.objectives import new_module
from tasks.randomness import derive
from tasks.registry import TASKS
from tasks.stream import StreamData
from tasks.task_module import Diverged, TaskModule
from tasks.train_settings import TrainSettings


@dataclass(frozen=True)
class Parts:
    """What a spec describes, built."""

    task: ModuleType
    task_settings: Any
    train: TrainSettings
    model: Backbone
    module: TaskModule
    data: StreamData


def make(kind: type, values: dict[str, Any], key: str) -> Any:
    """A settings dataclass from a spec's dictionary. Raises SettingsError for keys it does not have."""
    known = {field.name for field in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            raise SettingsError(f"{key}.{name}", "is not a setting", f"Known: {', '.join(sorted(known))}.", "spec.json")
    return kind(**values)


def build_parts(spec: CellSpec) -> Parts:
    """Builds task, model and Lightning modules of a cell; initialisation comes from the spec's seed.

    Raises:
        SettingsError: the settings cannot work. Unsupported: method and task do not go together.
    """
    restore_plugins(spec.plugins, "spec.json")
    check_data(spec, "spec.json")
    task, method = TASKS.load(spec.task), METHODS.load(spec.method)
    task_settings = make(task.Settings, spec.task_settings, f"task.{spec.task}")
    train = make(TrainSettings, spec.train, "train")
    make(TrainerSettings, spec.trainer, "trainer")
    on_cpu = spec.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
    if spec.precision == "16-mixed" and on_cpu:
        raise Unsupported("trainer.precision=16-mixed needs a CUDA device: on a CPU it would silently be bf16-mixed")
    # PyTorch computes products of float32 matrices exactly, and rounds to TF32 in cuDNN, whose convolutions and
    # recurrences only some methods have: all are to have one precision.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    backbone = make(BackboneSettings, spec.backbone, "backbone")
    method_settings = make(method.Settings, spec.method_settings, f"method.{spec.method}")
    torch.manual_seed(derive(spec.seed, "initialisation"))
    model = build(
        spec.method,
        method_settings,
        backbone,
        train.block_length,
        task.encoder(task_settings, backbone.width),
        task.head(task_settings, backbone.width),
        spec.impl,
    )
    if spec.precision == "64-true":
        model = model.double()
    module = new_module(TASKS.card(spec.task)["objective"], task, task_settings, model, train, spec.seed)
    return Parts(task, task_settings, train, model, module, StreamData(task, task_settings, train, spec.seed))


def build_trainer(
    spec: CellSpec, folder: Path, callbacks: list[pl.Callback], logger: MetricsLog | None, epochs: int
) -> pl.Trainer:
    """Lightning's Trainer for a cell. An epoch is the stretch from one validation to the next."""
    return pl.Trainer(
        **spec.trainer,
        precision=spec.precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=logger or False,
        callbacks=callbacks,
        default_root_dir=folder,
    )


def run_cell(spec: CellSpec, folder: CellFolder, claim: Claim | None, fresh: bool) -> Result:
    """Trains and evaluates a cell, going on from its last checkpoint unless `fresh`.

    Errors of the cell become the status of the result; KeyboardInterrupt and SystemExit pass. The result is returned,
    not written.
    """
    try:
        with quiet():
            return Result(spec.id, Status.OK, rows=_train_and_test(spec, folder, claim, fresh))
    except Diverged as error:
        return Result(spec.id, Status.DIVERGED, str(error))
    except Unsupported as error:
        return Result(spec.id, Status.UNSUPPORTED, str(error))
    except Exception as error:
        trace = traceback.format_exc()
        print(trace, flush=True)
        if is_out_of_memory(error):
            return Result(spec.id, Status.OOM, str(error).splitlines()[0] or "out of memory", trace)
        return Result(spec.id, Status.ERROR, f"{type(error).__name__}: {error}", trace)


def _train_and_test(spec: CellSpec, folder: CellFolder, claim: Claim | None, fresh: bool) -> list[Row]:
    parts = build_parts(spec)
    train = parts.train
    checkpoints = Checkpoints(folder, spec, bool(TASKS.card(spec.task)["higher_is_better"]))
    saved = None if fresh else read_checkpoint(checkpoints.last)
    if saved is not None and int(saved["best_step"]) >= 0 and read_checkpoint(checkpoints.best) is None:
        saved = None
    step = 0
    if saved is not None:
        step = int(saved["step"])
        parts.module.load_resume_state(saved)
        checkpoints.restore(saved)
        print(f"going on from step {step}", flush=True)
    folder.truncate_after(step)

    progress = Progress(claim, train.steps)
    if step < train.steps:
        earlier = max((float(record["seconds"]) for record in folder.records()), default=0.0)
        epochs = -(-train.steps // train.validate_every) - step // train.validate_every
        trainer = build_trainer(spec, folder.path, [progress, checkpoints], MetricsLog(folder, earlier), epochs)
        trainer.fit(parts.module, datamodule=parts.data)
        if parts.module.step < train.steps:
            raise SystemExit(f"training ended at step {parts.module.step} of {train.steps}")
    best = read_checkpoint(checkpoints.best)
    if best is None:
        raise GivenUp("the weights that were to be tested are lost: best.ckpt is missing or damaged")
    parts.model.load_state_dict(best["model"])
    build_trainer(spec, folder.path, [progress], None, 1).test(parts.module, datamodule=parts.data, verbose=False)
    return result_rows(spec, parts, checkpoints)


def flops_per_token(spec: CellSpec, parts: Parts, slots: float) -> float | None:
    """Operations per token of all layers' forward pass, by the formula of the method's card; None where it has none.

    Encoder and head, which are the task's, are not in it. A method that reads twice counts twice.
    """
    sizes = parts.model.sizes
    named = cost.sizes_of(sizes, parts.train.evaluation_batch_size)
    settings = vars(METHODS.load(spec.method).Settings(**spec.method_settings))
    mixing = cost.flops_per_token(METHODS.card(spec.method), settings, named, slots)
    if mixing is None:
        return None
    return parts.model.readings() * sizes.layers * (mixing + 4 * sizes.width * sizes.feedforward)


def result_rows(spec: CellSpec, parts: Parts, checkpoints: Checkpoints) -> list[Row]:
    """The test split's scores, the best validation point, what memory held, and the model's size."""
    module = parts.module
    scores = module.scores
    held = {"memory_carried": module.statistics["max_slots_allocated"] > 0}
    rows = [
        Row(
            s.metric,
            s.value,
            s.unit,
            split="test",
            n=s.n,
            higher_is_better=s.higher_is_better,
            context={**s.context, **held},
        )
        for s in scores
    ]
    main = scores[0]
    rows.append(
        Row(
            main.metric,
            checkpoints.best_value,
            main.unit,
            split="validation",
            higher_is_better=main.higher_is_better,
            context={**main.context, **held, "step": checkpoints.best_step},
        )
    )
    units: dict[str, tuple[str, bool | None]] = {name: (unit, False) for name, unit in MEMORY_UNITS.items()}
    units |= {name: (unit, None) for name, unit in parts.model.layers()[0].mixer.statistic_units.items()}
    for name, value in sorted(module.statistics.items()):
        unit, better = units[name.removeprefix("max_")]
        rows.append(Row(name, value, unit, split="test", higher_is_better=better, context=scores[0].context))
    flops = flops_per_token(spec, parts, module.statistics["slots_allocated"])
    if flops is not None:
        rows.append(
            Row("flops_per_token", flops, "FLOP", split="test", higher_is_better=False, context=scores[0].context)
        )
    count = sum(parameter.numel() for parameter in parts.model.parameters())
    rows.append(Row("parameters", float(count), "parameters", split=""))
    name, trained, unit = module.trained()
    rows.append(Row(name, float(trained), unit, split="train"))
    return rows


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what Lightning says of every run and what does not apply to ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*`IterableDataset` has `__len__` defined.*")
        warnings.filterwarnings("ignore", ".*number of training batches .* is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*trying to infer the `batch_size`.*")
        yield
