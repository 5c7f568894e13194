"""Uploads a study's offline runs with `wandb sync`, which marks what has arrived; never for longer than it may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.wandb_export.writer import environment, scratch


def runs(folder: Path) -> list[Path]:
    """The run folders in a study's folder for W&B."""
    return sorted(path.parent for path in folder.glob("offline-run-*/*.wandb"))


def synced(folder: Path) -> list[Path]:
    """Those of them that have been uploaded as they are."""
    return [run for run in runs(folder) if any(run.glob("*.wandb.synced"))]


def upload(folder: Path, limit_s: float, *, quiet: bool = False) -> bool:
    """Uploads what has not been uploaded.

    Args:
        folder: the study's folder for W&B.
        limit_s: seconds after which it is given up; wandb alone would go on trying.
        quiet: show nothing of what wandb says.

    Returns:
        whether all runs have arrived.
    """
    if len(synced(folder)) == len(runs(folder)):
        return True
    with scratch() as own:
        (own / "wandb").mkdir()  # without it wandb's log goes to the machine's temporary folder
        process = subprocess.Popen(
            [sys.executable, "-m", "wandb", "sync", str(folder.resolve())],
            env={**os.environ, **environment(own, online=True), "WANDB_DIR": str(own)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else sys.stderr,
            stderr=subprocess.DEVNULL if quiet else sys.stderr,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:  # Ctrl-C too, which does not reach a session of its own
            end(process)
    return len(synced(folder)) == len(runs(folder))


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that leads a session, and its children; nothing to do where it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
