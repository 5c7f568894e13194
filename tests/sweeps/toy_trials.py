"""Trials that take no training: a space by hand, and cells that walk to a score; loaded by name in cells' processes.

The parameter ``train.x`` (0 is best) is the score that a trial's validations come down to; ``train.deed`` is what its
cell does at step 3 besides.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from bench.presets.preset import Preset
from bench.spec import CellSpec
from bench.store import atomic
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim
from bench.store.result import Result, Row
from bench.store.statuses import Status
from sweeps.space import ObjectiveSettings, Parameter, PrunerSettings, SamplerSettings, Space

FUNCTION = "toy_trials:run_cell"


def space(parameters: dict[str, Any], seed: int = 0, pruner: dict[str, Any] | None = None) -> Space:
    """A space by hand: parameters as in a file."""
    return Space(
        about="toys",
        base=Preset({}, {}, {}, {}, "toy"),
        task="toy",
        method="toy",
        parameters={key: _parameter(entry) for key, entry in parameters.items()},
        seed=0,
        fixed={},
        objective=ObjectiveSettings(),
        sampler=SamplerSettings(kind="random", seed=seed),
        pruner=PrunerSettings(**(pruner or {"kind": "none"})),
        source="toy.yaml",
    )


def _parameter(entry: dict[str, Any]) -> Parameter:
    values: dict[str, Any] = {**entry, "choices": tuple(entry.get("choices", ()))}
    return Parameter(**values)


class ToyCells:
    """The cells of toy trials, with what `sweeps.trials` asks of `sweeps.trial_cells.TrialCells`."""

    metric, unit, higher_is_better = "score", "points", False

    def __init__(self, **train: Any) -> None:
        self.train = {"steps": 5, "pause": 0.0, "deed": "", **train}

    def spec(self, parameters: dict[str, Any]) -> CellSpec:
        """A toy cell."""
        own = {key.removeprefix("train."): value for key, value in parameters.items()}
        return CellSpec(
            task="toy",
            task_label="toy",
            task_version=1,
            task_settings={},
            method="toy",
            variant="",
            method_settings={},
            impl="reference",
            backbone={},
            train={**self.train, **own},
            trainer={"accelerator": "cpu", "devices": 1},
            precision="32-true",
            seed=0,
        )

    def definition(self) -> dict[str, Any]:
        """What a sweep of these has in common."""
        return {"cell": self.train, "objective": {"metric": self.metric, "split": "validation"}}


def run_cell(spec: CellSpec, folder: CellFolder, claim: Claim | None, fresh: bool) -> Result:
    """Walks to its score, with a validation and a checkpoint at each step."""
    train, checkpoint, step = spec.train, folder.checkpoints / "last.json", 0
    if not fresh and checkpoint.exists():
        step = json.loads(checkpoint.read_text())["step"]
    folder.truncate_after(step)
    with open(folder.path.parent / "processes.log", "a") as log:
        log.write(
            json.dumps({"cell": spec.id, "pid": os.getpid(), "from": step, "optuna": "optuna" in sys.modules}) + "\n"
        )
    value = train["x"] + 1 / max(step, 1)
    while step < train["steps"]:
        step += 1
        value = train["x"] + 1 / step
        if claim is not None:
            claim.progress("training", step, train["steps"])
        if step == 3 and train["deed"]:
            return Result(spec.id, Status(train["deed"]), f"the toy was told so: {train['deed']}")
        time.sleep(train["pause"])
        folder.append([{"step": step, "metric": "score", "value": value, "split": "validation", "seconds": 0.1 * step}])
        atomic.make_folder(folder.checkpoints)
        atomic.write_json(checkpoint, {"step": step})
    rows = [Row("score", value, "points", split) for split in ("test", "validation")]
    return Result(spec.id, Status.OK, rows=rows)
