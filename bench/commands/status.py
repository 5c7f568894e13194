"""Shows how a study stands: what is done, what is running and how far, what failed and why, what is of other code.

Reads the study's files alone, also while it runs. The exit code is 1 where a cell failed or a file is damaged.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.report import report_page
from bench.store.statuses import RESULTS, WELL, Status
from bench.store.study_status import CellState, StudyStatus, study_status
from models.errors import SettingsError
from models.nearest import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="runs/NAME", help="the study's folder")


def run(args: argparse.Namespace) -> int:
    try:
        study = study_status(args.study)
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(str(args.study), "there is no study", _others(args.study)) from None
    if not args.quiet:
        show(study)
    for line in study.damaged:
        print(f"damaged: {line}", file=sys.stderr)
    print(json.dumps({**summary(study, report_page(args.study)), "stale": study.stale}))
    return 1 if study.damaged or any(failed(state.status) for state in study.cells) else 0


def summary(study: StudyStatus, report: str | None) -> dict[str, object]:
    """The last line of `status` and `run`."""
    return {"study": study.study, "cells": len(study.cells), "counts": study.counts, "report": report}


def failed(status: Status) -> bool:
    """Whether a cell's status is a failure: neither well nor yet to come."""
    return status is Status.DAMAGED or (status in RESULTS and status not in WELL)


def show(study: StudyStatus) -> None:
    """Prints the table of cells, and the counts."""
    rows = [("cell", "status", "progress", "result", "reason")]
    rows += [(state.cell, _status(state), _progress(state), _value(state), state.reason) for state in study.cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print()
    counts = ", ".join(f"{number} {status}" for status, number in study.counts.items())
    print(f"{study.study}: {len(study.cells)} cells: {counts}")
    if study.stale:
        print(f"{study.stale} of other code than today's (stale); `run --retry stale` runs them again")


def _status(state: CellState) -> str:
    return f"{state.status.value} (stale)" if state.stale else state.status.value


def _progress(state: CellState) -> str:
    if state.seconds is not None:
        return f"{state.seconds:.0f} s"
    if state.steps:
        return f"{state.phase} {state.step:,} of {state.steps:,}"
    return state.phase


def _value(state: CellState) -> str:
    if state.main is None or state.main.value is None:
        return ""
    return f"{state.main.metric} {state.main.value:.4g} ({state.main.split})"


def _others(folder: Path) -> str:
    """What to do instead of looking at a study that is not there."""
    names = sorted(path.parent.name for path in folder.parent.glob("*/manifest.json"))
    if not names:
        return "`python -m bench run` makes one."
    return nearest(folder.name, names)
