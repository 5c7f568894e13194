"""Cells that take no training, for tests of what runs cells. Loaded by name in the cell's process, like `bench.cell`.

A toy's spec says what it does in its ``train`` settings: ``steps`` steps of ``pause`` seconds, a checkpoint every
``checkpoint_every``, and at step ``at`` its ``deed``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.spec import CellSpec
from bench.store import atomic
from bench.store.cell_folder import CellFolder
from bench.store.claim import Claim, GivenUp
from bench.store.result import Result, Row
from bench.store.statuses import Status

FUNCTION = "toy_cells:run_cell"


def spec(name: str, **train: Any) -> CellSpec:
    """A toy cell. `name` stands in its id; `time_limit_s` and `threads` go to the spec, the rest to ``train``."""
    limits = {key: train.pop(key) for key in ("time_limit_s", "threads") if key in train}
    return CellSpec(
        task="toy",
        task_label=name,
        task_version=1,
        task_settings={},
        method="toy",
        variant="",
        method_settings={},
        impl="reference",
        backbone={},
        train={"steps": 5, "pause": 0.0, "checkpoint_every": 2, "at": 3, "deed": "", **train},
        trainer={"accelerator": "cpu", "devices": 1},
        precision="32-true",
        seed=0,
        **limits,
    )


def run_cell(spec: CellSpec, folder: CellFolder, claim: Claim | None, fresh: bool) -> Result:
    """Counts to ``steps``, writing each step to metrics.jsonl, and goes on from its checkpoint unless `fresh`."""
    train = spec.train
    checkpoint = folder.checkpoints / "last.json"
    step = 0
    if not fresh and checkpoint.exists():
        step = json.loads(checkpoint.read_text())["step"]
    folder.truncate_after(step)
    with open(folder.path.parent / "processes.log", "a") as log:
        log.write(json.dumps({"cell": spec.id, "pid": os.getpid(), "from": step, "fresh": fresh}) + "\n")
    print(f"counting from {step}")
    while step < train["steps"]:
        step += 1
        if claim is not None:
            claim.progress("train", step, train["steps"])
        if step == train["at"] and train["deed"]:
            DEEDS[train["deed"]](folder)
        time.sleep(train["pause"])
        folder.append(
            [{"step": step, "metric": "train_loss", "value": 1 / step, "split": "train", "seconds": 0.1 * step}]
        )
        if step % train["checkpoint_every"] == 0:
            atomic.make_folder(folder.checkpoints)
            atomic.write_json(checkpoint, {"step": step})
    return Result(spec.id, Status.OK, rows=[Row("count", float(step), "steps", "test", n=1, higher_is_better=True)])


def _raise(_: CellFolder) -> None:
    raise RuntimeError("the toy is broken")


def _kill_once(folder: CellFolder) -> None:
    marker = folder.path / "killed"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_as_the_kernel_does(folder: CellFolder) -> None:
    """Is killed for want of memory: as by SIGKILL, and counted in the folder `kernel` beside the study."""
    (folder.study.parent / "kernel" / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def _give_up_once(folder: CellFolder) -> None:
    marker = folder.path / "given up"
    if not marker.exists():
        marker.touch()
        raise GivenUp("checkpoints/last.ckpt cannot be read: Input/output error")


def _hang(_: CellFolder) -> None:
    time.sleep(600)


def _hang_hard(_: CellFolder) -> None:
    """Hangs so that nothing of this process's Python runs any more, as in a C function that keeps the GIL."""
    import ctypes

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctypes.PyDLL(None).sleep(600)


def _fork(folder: CellFolder) -> None:
    """Leaves a forked child behind, as a data loader's worker may be left."""
    if os.fork() == 0:
        # Not the cell's file descriptors, not its threads; only a process that lives on.
        time.sleep(600)
        os._exit(0)


def _environment(folder: CellFolder) -> None:
    threads = [path.name for path in Path("/proc/self/task").iterdir()]
    torch: Any = sys.modules.get("torch")
    facts = {
        "toy_variable": os.environ.get("TOY_VARIABLE"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "torch_threads": torch.get_num_threads() if torch else None,
        "cuda": torch.cuda.is_initialized() if torch else None,
        "lightning": "pytorch_lightning" in sys.modules,
        "server_threads": len(list(Path(f"/proc/{os.getppid()}/task").iterdir())),
        "threads": len(threads),
        "main": getattr(sys.modules["__main__"], "__name__", None),
        "session": os.getsid(0) == os.getpid(),
        "time": time.time(),
    }
    atomic.write_json(folder.path / "environment.json", facts)


DEEDS = {
    "raise": _raise,
    "kill": lambda folder: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda folder: os.kill(os.getpid(), signal.SIGTERM),
    "kill_once": _kill_once,
    "kill_as_the_kernel_does": _kill_as_the_kernel_does,
    "crash": lambda folder: os.kill(os.getpid(), signal.SIGSEGV),
    "leave": lambda folder: sys.exit(3),
    "leave_with_words": lambda folder: sys.exit("training ended too early"),
    "give_up_once": _give_up_once,
    "hang": _hang,
    "hang_hard": _hang_hard,
    "fork": _fork,
    "environment": _environment,
}
