"""What holds for every test: one thread a process, `gpu` tests only on a GPU, and a record of skips for CI."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from models import registry

CHECKOUT = Path(__file__).resolve().parent.parent

# Two pytest workers on two cores: a pool of threads in each would double every time. Set before torch is imported, and
# inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What tests start need not compile the project each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell starts what it puts into the background with Ctrl-C ignored, `nohup` anything with SIGHUP, and a process hands
# that on: the runs that tests interrupt would not end.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A device's lock lies in the temporary folder. Each pytest worker has one of its own, which the processes that it
# starts inherit, so that one test's clock keeps no other worker's cells waiting; pytest's own folders stay outside.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="sb", dir=os.environ["PYTEST_DEBUG_TEMPROOT"])
atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)

# A module's card is found in its source each time it is asked for: thousands of times in these tests, a good part of
# what they take. Here once for each content, which nothing can tell from finding it again. Not in the registry: it is
# part of every cell's code, so that all committed results would be stale for it, and no run noticeably quicker.
_find_card = registry._find_card
_find_card_in = functools.cache(lambda path, content: _find_card(path))
registry._find_card = lambda path: _find_card_in(path, path.read_bytes())

# Folders that are never part of the project, for a checkout without git (a downloaded archive).
NOT_OURS = {".venv", "data", "runs", "wandb"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips `gpu` tests where there is no CUDA device; torch is imported only if such a test was collected."""
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if not wanted:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def record_skip(what: str, reason: object) -> None:
    """Appends a line to the file that SPANBENCH_SKIPS names. CI fails on it: a skipped test guards nothing."""
    if path := os.environ.get("SPANBENCH_SKIPS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{what}: {reason}\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "gpu" not in report.keywords:  # a test that is expected to fail counts as skipped too
        record_skip(report.nodeid, report.longrepr)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    # A module that skips itself while it is collected; xdist does not pass these on to the main process.
    if report.skipped:
        record_skip(report.nodeid, report.longrepr)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The project's root folder."""
    return CHECKOUT


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """Every file of the project: what git tracks, or all but caches where the checkout has no git."""
    if (CHECKOUT / ".git").exists():
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True)
        return [path for name in listing.stdout.split("\0") if name and (path := CHECKOUT / name).is_file()]
    return [
        path
        for path in CHECKOUT.rglob("*")
        if path.is_file()
        and not NOT_OURS & {path.relative_to(CHECKOUT).parts[0]}
        and not any(part.endswith(("_cache", "__pycache__")) for part in path.parts)
    ]
