"""The efficiency table: quality, time and memory of every method on one device, and their ratios to the baseline's.

Times and memory come from the clock, which measures one model per method; ratios of times are paired by round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import published
from reports.groups import Group
from reports.quality import BASELINE, Line, QualityTable
from reports.statistics import FEWEST_ROUNDS

_CLOCKED = ("time_per_batch", "memory_peak")
"""The metrics that the clock gives every method, with or without a value."""


@dataclass(frozen=True)
class Measured:
    """One figure with what it rests on.

    Args:
        value: in its unit; low, high: of its interval or percentiles; n: repetitions. All None where not measured.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class EfficiencyLine:
    """One method's figures. Memory in bytes, time in milliseconds."""

    line: Line
    time: Measured
    time_ratio: Measured
    time_published: float | None
    memory: Measured
    memory_extra: Measured
    memory_ratio: float | None
    memory_published: float | None
    memory_evaluation: Measured
    seed: int | None
    """Of the cell whose model was measured."""
    steady: bool | None
    """Whether step times had become steady before they were measured; None where nothing was."""
    memory_steady: bool | None
    """Whether it held as much memory after its last turn as before its first; None where that is not known."""
    rebuilt: bool
    """Whether the model was built anew for each turn, because not all fit on the device together."""
    stale: bool
    """Whether time and memory were measured by other code than today's."""
    status: str
    """Why there is no time or memory; empty where there is."""

    @property
    def minutes(self) -> float | None:
        """Training's steps times the time of one; None where that was not measured."""
        steps = int(self.line.group.spec["train"]["steps"])
        return None if self.time.value is None else steps * self.time.value / 60_000


@dataclass(frozen=True)
class EfficiencyTable:
    """All methods of one quality table that the clock has measured."""

    quality: QualityTable
    lines: list[EfficiencyLine]
    task: str
    device: str
    threads: int | None
    overhead: Measured
    """What Lightning's Trainer adds to the baseline's step, as a share of it."""


def efficiency_table(quality: QualityTable) -> EfficiencyTable | None:
    """The table beside a quality table; None where the clock has measured none of its methods."""
    timed = [line.group.rows for line in quality.lines]
    rows = pd.concat(timed) if timed else pd.DataFrame()
    if rows.empty or not rows["metric"].isin(_CLOCKED).any():
        return None
    baseline = quality.baseline
    reference = _figure(baseline, "memory_peak", "train").value if baseline else None
    lines = [_line(line, reference) for line in quality.lines]
    clocked = rows[rows["metric"].isin(_CLOCKED)].iloc[0]
    overhead = _figure(baseline, "trainer_overhead", "train") if baseline else Measured()
    threads = None if pd.isna(clocked["threads"]) else int(clocked["threads"])
    task = str(quality.lines[0].group.spec["task"])
    return EfficiencyTable(quality, lines, task, str(clocked["device"]), threads, overhead)


def _line(line: Line, reference: float | None) -> EfficiencyLine:
    group = line.group
    task, method = str(group.spec["task"]), group.method if not group.spec["variant"] else ""
    memory = _figure(group, "memory_peak", "train")
    clocked = group.rows[group.rows["metric"].isin(_CLOCKED)]
    how = next((found for found in clocked["context"] if isinstance(found, dict) and "steady" in found), {})
    return EfficiencyLine(
        line=line,
        time=_figure(group, "time_per_batch", "train", percentiles=True),
        time_ratio=_figure(group, "time_to_transformer_xl", "train"),
        time_published=published.ratio(task, method, "time_per_batch", BASELINE),
        memory=memory,
        memory_extra=_figure(group, "memory_extra", "train"),
        memory_ratio=None if memory.value is None or not reference else memory.value / reference,
        memory_published=published.ratio(task, method, "gpu_memory", BASELINE),
        memory_evaluation=_figure(group, "memory_peak", "validation"),
        seed=None if clocked.empty else int(clocked.iloc[0]["seed"]),
        steady=how.get("steady"),
        memory_steady=how.get("memory_steady"),
        rebuilt=bool(how.get("rebuilt_each_round")),
        stale=bool(clocked["stale"].fillna(False).any()),
        status=_status(clocked),
    )


def _figure(group: Group, metric: str, split: str, percentiles: bool = False) -> Measured:
    found = group.rows[(group.rows["metric"] == metric) & (group.rows["split"] == split) & group.rows["value"].notna()]
    if found.empty:
        return Measured()
    row = found.iloc[0]
    context: dict[str, Any] = row["context"] if isinstance(row["context"], dict) else {}
    low, high = (row["p20"], row["p80"]) if percentiles else (context.get("low"), context.get("high"))
    n = None if pd.isna(row["n"]) else int(row["n"])
    if not percentiles and n is not None and n < FEWEST_ROUNDS:
        low = high = None  # files of earlier code have an interval all the same
    return Measured(float(row["value"]), _number(low), _number(high), n)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _status(clocked: pd.DataFrame) -> str:
    """What the clock says where it could not measure."""
    if clocked.empty:
        return "not measured"
    bad = clocked[clocked["status"] != "ok"]
    return "" if bad.empty else f"{bad.iloc[0]['status']}: {bad.iloc[0]['reason']}"
