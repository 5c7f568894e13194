"""The efficiency table: quality, time and memory of every method on one device, and their ratios to the baseline's.

Times and memory come from the clock, which measures one model per method; ratios of times are paired by round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import published
from reports.groups import Group
from reports.parts import Bullets, Part, Table
from reports.quality import BASELINE, Line, QualityTable, number, shown

MB = 1e6
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
    stale: bool
    """Whether time and memory were measured by other code than today's."""
    status: str
    """Why there is no time or memory; empty where there is."""


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
    baseline = next((line for line in quality.lines if _is_baseline(line.group)), None)
    reference = _figure(baseline.group, "memory_peak", "train").value if baseline else None
    lines = [_line(line, reference) for line in quality.lines]
    clocked = rows[rows["metric"].isin(_CLOCKED)].iloc[0]
    overhead = _figure(baseline.group, "trainer_overhead", "train") if baseline else Measured()
    threads = None if pd.isna(clocked["threads"]) else int(clocked["threads"])
    task = str(quality.lines[0].group.spec["task"])
    return EfficiencyTable(quality, lines, task, str(clocked["device"]), threads, overhead)


def _is_baseline(group: Group) -> bool:
    return group.method == BASELINE and not group.spec["variant"]


def _line(line: Line, reference: float | None) -> EfficiencyLine:
    group = line.group
    task, method = str(group.spec["task"]), group.method if not group.spec["variant"] else ""
    memory = _figure(group, "memory_peak", "train")
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
        stale=bool(group.rows[group.rows["metric"].isin(_CLOCKED)]["stale"].fillna(False).any()),
        status=_status(group),
    )


def _figure(group: Group, metric: str, split: str, percentiles: bool = False) -> Measured:
    found = group.rows[(group.rows["metric"] == metric) & (group.rows["split"] == split) & group.rows["value"].notna()]
    if found.empty:
        return Measured()
    row = found.iloc[0]
    context: dict[str, Any] = row["context"] if isinstance(row["context"], dict) else {}
    low, high = (row["p20"], row["p80"]) if percentiles else (context.get("low"), context.get("high"))
    n = None if pd.isna(row["n"]) else int(row["n"])
    return Measured(float(row["value"]), _number(low), _number(high), n)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _status(group: Group) -> str:
    """What the clock says where it could not measure."""
    clocked = group.rows[group.rows["metric"].isin(_CLOCKED)]
    if clocked.empty:
        return "not measured"
    bad = clocked[clocked["status"] != "ok"]
    return "" if bad.empty else f"{bad.iloc[0]['status']}: {bad.iloc[0]['reason']}"


def efficiency_parts(efficiency: EfficiencyTable) -> list[Part]:
    """The table as it is shown, with what its figures are below it."""
    quality = efficiency.quality
    arrow = "↑" if quality.higher_is_better else "↓"
    theirs = any(line.time_published or line.memory_published for line in efficiency.lines)
    header = [
        "method",
        f"test {quality.metric} ({quality.unit}) {arrow}",
        "time per batch (ms) ↓",
        "time ratio",
        "peak memory (MB) ↓",
        "memory ratio",
        "evaluation memory (MB) ↓",
        "state (kB/stream) ↓",
        "parameters",
    ]
    if theirs:
        header.insert(4, "published time ratio")
        header.insert(7, "published memory ratio")
    lines = []
    for line in efficiency.lines:
        base = _is_baseline(line.line.group)
        cells = [
            line.line.group.label + (" (stale)" if line.stale else ""),
            shown(line.line.test, quality.unit),
            _with_spread(line.time, 1),
            "1" if base and line.time.value is not None else _with_spread(line.time_ratio, 2),
            number(_mb(line.memory), 1),
            number(line.memory_ratio, 2),
            number(_mb(line.memory_evaluation), 1),
            number(None if line.line.state_bytes is None else line.line.state_bytes / 1000, 1),
            number(line.line.parameters, 0),
        ]
        if theirs:
            cells.insert(4, number(line.time_published, 2))
            cells.insert(7, number(line.memory_published, 2))
        lines.append(tuple(cells))
    return [Table(tuple(header), tuple(lines)), _reading(efficiency, theirs)]


def _mb(measured: Measured) -> float | None:
    return None if measured.value is None else measured.value / MB


def _with_spread(measured: Measured, digits: int) -> str:
    if measured.value is None:
        return "-"
    text = f"{measured.value:,.{digits}f}"
    if measured.low is None or measured.high is None:
        return text
    return f"{text} [{measured.low:,.{digits}f}, {measured.high:,.{digits}f}]"


def _reading(efficiency: EfficiencyTable, theirs: bool) -> Bullets:
    lines = [line for line in efficiency.lines if line.time.n is not None]
    counts = sorted({line.time.n for line in lines if line.time.n is not None})
    where = f"{efficiency.device}, {efficiency.threads} CPU thread(s)" if efficiency.threads else efficiency.device
    said = [
        f"Measured on {where}, after training, at the spans it has reached, with memory full; one process at a time.",
        f"Time: one training step (forward, backward, clip, optimiser) outside the Trainer, median [20th, 80th "
        f"percentile] of {counts[0]}{f' to {counts[-1]}' if counts[1:] else ''} steps."
        if counts
        else "",
        "Ratios to Transformer-XL: times are paired by round, median [95 % bootstrap interval over rounds].",
        "Memory: peak of PyTorch's allocator over a training step, weights, gradients and optimiser included; library "
        "scratch is not in it. Evaluation: over a validation block.",
    ]
    if efficiency.overhead.value is not None:
        said.append(f"Lightning's Trainer adds {_percent(efficiency.overhead)} to Transformer-XL's step and its input.")
    if theirs:
        said.append(
            f"Published ratios: {'; '.join(published.sources(efficiency.task))}; hardware unknown, full-size models."
        )
    if any(line.stale for line in efficiency.lines):
        said.append("Stale: time and memory were measured by other code than today's; `bench clock` measures again.")
    said += [f"{line.line.group.label}: {line.status}." for line in efficiency.lines if line.status]
    return Bullets(tuple(line for line in said if line))


def _percent(measured: Measured) -> str:
    assert measured.value is not None
    text = f"{100 * measured.value:.1f} %"
    if measured.low is None or measured.high is None:
        return text
    return f"{text} [{100 * measured.low:.1f}, {100 * measured.high:.1f}]"


def frame(tables: Sequence[EfficiencyTable]) -> pd.DataFrame:
    """The tables' figures, for the CSV."""
    return pd.DataFrame(
        [
            {
                "task": efficiency.quality.heading,
                "method": line.line.group.method,
                "label": line.line.group.label,
                "device": efficiency.device,
                "threads": efficiency.threads,
                "test": line.line.test.value if line.line.test else None,
                "time_ms_p50": line.time.value,
                "time_ms_p20": line.time.low,
                "time_ms_p80": line.time.high,
                "time_steps": line.time.n,
                "time_ratio": line.time_ratio.value,
                "time_ratio_low": line.time_ratio.low,
                "time_ratio_high": line.time_ratio.high,
                "time_ratio_published": line.time_published,
                "memory_peak_bytes": line.memory.value,
                "memory_extra_bytes": line.memory_extra.value,
                "memory_ratio": line.memory_ratio,
                "memory_ratio_published": line.memory_published,
                "memory_evaluation_bytes": line.memory_evaluation.value,
                "state_bytes": line.line.state_bytes,
                "parameters": line.line.parameters,
                "stale": line.stale,
                "status": line.status,
            }
            for efficiency in tables
            for line in efficiency.lines
        ]
    )
