"""The report of a study, as far as the harness knows it: how to have it built, and where its page lies.

`reports` stands above this package and reads stored rows only, so it runs as a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_PAGES = (".html", ".md")  # what may be a report's page, the better one first


class ReportError(RuntimeError):
    """The report could not be built; the study's numbers are not touched by that."""


def build_report(study_dir: Path) -> tuple[str | None, str]:
    """Runs ``python -m reports build``.

    Returns:
        the path of the report's page, None where it wrote no page; and what it printed for people.

    Raises:
        ReportError: it failed.
    """
    command = [sys.executable, "-m", "reports", "build", str(study_dir)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ReportError(done.stderr.strip() or f"it ended with code {done.returncode}")
    text, _, last = done.stdout.rstrip().rpartition("\n")
    try:
        files = json.loads(last)["files"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ReportError("its last line was not the line of JSON that names its files") from error
    return _page(files), text


def report_page(study_dir: Path) -> str | None:
    """The path of the page of the report that was built last; None where there is none."""
    return _page(str(path) for pattern in ("report*.*", "report/*") for path in sorted(study_dir.glob(pattern)))


def _page(files: Iterable[str]) -> str | None:
    names = list(files)
    return next((name for suffix in _PAGES for name in names if name.endswith(suffix)), None)
