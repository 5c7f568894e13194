"""Writes runs with wandb: the only module of ours that imports it, and never in the process of a cell.

An offline run is first written in a temporary folder beside its place, stripped of wandb's own logs (they name this
machine's folders), and then moved: a run folder that is there is whole.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.wandb_export.content import Head, Moment, RunContent
from bench.wandb_export.settings import WandbSettings

INIT_TIMEOUT_S = 20.0
"""Seconds for which a server is waited for when a run begins."""
FINISH_TIMEOUT_S = 60.0
"""Seconds for which what was logged may go on being sent when a run ends."""
MISSING = (
    "W&B is not installed, so no W&B runs are written; `pip install wandb` adds it, wandb.mode=disabled does without"
)
_UNFINISHED = ".unfinished-"


class ExportError(RuntimeError):
    """W&B could not write or send a run; the study's numbers are not touched by that."""


def installed() -> bool:
    """Whether wandb could be imported. A folder named wandb, which it leaves where it is used, does not count."""
    spec = importlib.util.find_spec("wandb")
    return spec is not None and spec.origin is not None


class Writer:
    """Writes runs of one study; a context manager, inside which this process's environment is wandb's.

    Args:
        folder: where the runs of the study lie; made if it is missing.
        settings: project, entity, and whether to write offline or send to a server.
    """

    def __init__(self, folder: Path, settings: WandbSettings) -> None:
        self.folder, self.settings = folder, settings
        self.online = settings.mode == "online"
        self._environment: dict[str, str] = {}
        self._temporary = folder
        self._hidden: set[tuple[str, str]] = set()

    def __enter__(self) -> Writer:
        if not installed():
            raise ExportError(MISSING)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Online nothing of it is kept, and another process may be clearing the study's folder.
        self._temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=None if self.online else self.folder))
        self._environment = dict(os.environ)
        os.environ.update(environment(self._temporary, online=self.online))
        if not self.online:
            for name in set(os.environ) - set(environment(self._temporary, online=False)):
                if name.startswith("WANDB_"):  # whatever a user has set there must not get into the files
                    del os.environ[name]
        return self

    def __exit__(self, *_: object) -> None:
        import wandb

        try:
            wandb.teardown()
        except OSError as error:  # its service process has died; what was written is judged by `_keep`
            print(f"W&B did not end well: {_first_line(error)}", file=sys.stderr)
        finally:
            os.environ.clear()
            os.environ.update(self._environment)
            shutil.rmtree(self._temporary, ignore_errors=True)

    def begin(self, head: Head) -> Any:
        """Begins a run and returns wandb's object for it. Raises ExportError."""
        import wandb

        try:
            return wandb.init(
                project=self.settings.project,
                entity=self.settings.entity,
                id=head.id,
                name=head.name,
                group=head.group,
                job_type=head.job_type,
                tags=head.tags,
                config=head.config,
                reinit="create_new",
                settings=wandb.Settings(
                    mode="online" if self.online else "offline",
                    root_dir=str(self._temporary),
                    silent=True,
                    console="off",
                    symlink=False,
                    init_timeout=INIT_TIMEOUT_S,
                    finish_timeout=FINISH_TIMEOUT_S,
                    finish_timeout_raises=True,
                    host="",
                    program="",
                    save_code=False,
                    disable_code=True,
                    disable_git=True,
                    disable_job_creation=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_disable_machine_info=True,
                    x_disable_viewer=True,
                    x_save_requirements=False,
                ),
            )
        except Exception as error:  # beside its own, wandb raises what its service's connection does
            raise ExportError(_first_line(error)) from error

    def log(self, run: Any, moment: Moment, started: float) -> None:
        """Adds a point to a run's curves, at its true step and time. Raises ExportError."""
        figures = {**moment.figures, "seconds": moment.seconds, "_timestamp": started + moment.seconds}
        try:
            for name in [*moment.figures, "seconds"]:
                if (run.id, name) not in self._hidden:  # a summary is what was measured at the end, not the last point
                    run.define_metric(name, summary="none")
                    self._hidden.add((run.id, name))
            run.log(figures, step=moment.step)
        except Exception as error:  # as in `begin`
            raise ExportError(_first_line(error)) from error

    def finish(self, run: Any, late_config: Mapping[str, Any], summary: Mapping[str, Any], exit_code: int) -> None:
        """Ends a run. Raises ExportError where not all of it could be written, or sent in time."""
        try:
            run.config.update(dict(late_config), allow_val_change=True)
            run.summary.update(dict(summary))
            run.finish(exit_code=exit_code)
        except Exception as error:  # as in `begin`
            raise ExportError(_first_line(error)) from error

    def write(self, content: RunContent) -> str | None:
        """Writes a finished cell's run in place of the one that was there, if any.

        Returns:
            the name of its folder in `folder`; None where it was sent to a server.

        Raises:
            ExportError: it could not be written or sent.
        """
        run = self.begin(content.head)
        for moment in content.curve:
            self.log(run, moment, content.started)
        self.finish(run, content.late_config, content.summary, content.exit_code)
        if not self.online:
            return self._keep(content)
        self._remove(content.head)
        return None

    def _keep(self, content: RunContent) -> str:
        """Moves a run that was written offline to its place."""
        files = [path for path in self._temporary.glob(f"*/*/run-{content.head.id}.wandb") if path.stat().st_size]
        if len(files) != 1:
            raise ExportError(f"W&B left {len(files)} run files for {content.head.name}, not one")
        written = files[0].parent
        for leftover in ("logs", "tmp"):
            shutil.rmtree(written / leftover, ignore_errors=True)
        self._remove(content.head)
        began = datetime.fromtimestamp(content.started, UTC)
        target = self.folder / f"offline-run-{began:%Y%m%d_%H%M%S}-{content.head.id}"
        os.rename(written, target)
        return target.name

    def _remove(self, head: Head) -> None:
        """Deletes what was written offline of a run before."""
        for old in self.folder.glob(f"offline-run-*-{head.id}"):
            shutil.rmtree(old)


def environment(folder: Path, *, online: bool) -> dict[str, str]:
    """Variables that keep wandb's own files in a folder, and its reports on itself from being sent.

    Args:
        folder: where caches and, offline, wandb's settings are looked for.
        online: whether the user's settings and keys are to be found.
    """
    places = {name: str(folder / name.lower()) for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    if not online:
        places["WANDB_CONFIG_DIR"] = str(folder / "wandb_config_dir")
    return {**places, "WANDB_ERROR_REPORTING": "false"}


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for wandb's own files, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="wandb-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_unfinished(folder: Path) -> None:
    """Deletes what writers that were killed left. The caller must be the folder's only writer."""
    for leftover in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
