"""Figures that papers have published (`published.csv`), with their sources. They never stand among ours as if alike.

What is compared is a ratio: theirs to their Transformer-XL beside ours to our Transformer-XL, because ratios travel and
milliseconds do not.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("published.csv")
EFFICIENCY = "fixed batch"
"""What the setting of a row begins with that belongs to a table of quality, memory and time at one batch size."""


@functools.cache
def figures() -> pd.DataFrame:
    """All rows: task, method, metric, value, unit, split, params_millions, setting, source."""
    return pd.read_csv(FILE)


def ratio(task: str, method: str, metric: str, baseline: str) -> float | None:
    """A method's published figure over the baseline's, both from one efficiency table; None where there is none.

    Args:
        task: the task's id; method, baseline: methods' ids.
        metric: ``time_per_batch`` or ``gpu_memory``.
    """
    mine, theirs = _row(task, method, metric), _row(task, baseline, metric)
    if mine is None or theirs is None or mine["source"] != theirs["source"]:
        return None
    return float(mine["value"]) / float(theirs["value"])


def sources(task: str) -> list[str]:
    """Where a task's efficiency figures were published."""
    rows = figures()
    found = rows[(rows["task"] == task) & rows["setting"].str.startswith(EFFICIENCY)]
    return list(dict.fromkeys(found["source"]))


def _row(task: str, method: str, metric: str) -> pd.Series | None:
    rows = figures()
    found = rows[
        (rows["task"] == task)
        & (rows["method"] == method)
        & (rows["metric"] == metric)
        & rows["setting"].str.startswith(EFFICIENCY)
    ]
    return None if found.empty else found.iloc[0]
