"""The processes that `bench run` starts for W&B, so that wandb's threads and signal handlers stay out of the runner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.wandb_export.settings import WandbSettings
from bench.wandb_export.sync import end
from bench.wandb_export.writer import MISSING, installed


@contextmanager
def cells_sent(study_dir: Path, settings: WandbSettings) -> Iterator[None]:
    """While it lasts, running cells are sent to W&B, if mode is online.

    Args:
        study_dir: ``runs/<study>``, which need not exist.
        settings: where to, and how long sending what is left may take at the end.
    """
    if settings.mode != "online" or not installed():
        yield
        return
    # A session of its own: after Ctrl-C it still has to say that the cells were interrupted.
    process = subprocess.Popen(
        [*_command(study_dir, settings), "--online", "--follow", "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        try:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(settings.time_limit_s)
        except subprocess.TimeoutExpired:
            print(f"W&B did not take the cells within {settings.time_limit_s:g} s", file=sys.stderr)
        finally:
            end(process)


def export_study(study_dir: Path, settings: WandbSettings, *, quiet: bool) -> bool:
    """Writes the runs of a study's finished cells.

    Args:
        study_dir: ``runs/<study>``.
        settings: mode, project, entity and time limit.
        quiet: print nothing but problems.

    Returns:
        False where something went wrong, which has then been said on stderr. Where wandb is not installed that is
        said too, and nothing is wrong.
    """
    if settings.mode == "disabled" or not any(Path(study_dir).glob("cells/*/result.json")):
        return True
    if not installed():
        print(MISSING, file=sys.stderr)
        return True
    command = _command(study_dir, settings) + (["--online"] if settings.mode == "online" else [])
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=settings.time_limit_s)
    except subprocess.TimeoutExpired:
        again = f"`python -m bench wandb {study_dir}` goes on"
        print(f"W&B runs were not written within {settings.time_limit_s:g} s; {again}", file=sys.stderr)
        return False
    finally:
        end(process)
    if not quiet:
        print("\n".join(said.decode().splitlines()[-2:-1]))
    return process.returncode == 0


def _command(study_dir: Path, settings: WandbSettings) -> list[str]:
    command = [sys.executable, "-m", "bench", "wandb", str(study_dir), "--time-limit", str(settings.time_limit_s)]
    command += ["--project", settings.project]
    return command + (["--entity", settings.entity] if settings.entity else [])
