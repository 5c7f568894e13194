"""The efficiency table as it is shown, what its figures are in sentences below it, and its CSV."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports import method_settings, published
from reports.efficiency import EfficiencyLine, EfficiencyTable, Measured
from reports.parts import Bullets, Code, Part, Table, Text
from reports.quality import number, shown
from reports.statistics import over_rounds

MB = 1e6


def efficiency_parts(efficiency: EfficiencyTable) -> list[Part]:
    """The table as it is shown, with what its figures are below it."""
    quality = efficiency.quality
    arrow = "↑" if quality.higher_is_better else "↓"
    theirs = any(line.time_published or line.memory_published for line in efficiency.lines)
    header = [
        "method",
        f"{quality.split} {quality.metric} ({quality.unit}) {arrow}",
        "time per batch (ms) ↓",
        "time ratio",
        "all steps (min) ↓",
        "peak memory (MB) ↓",
        "memory ratio",
        "evaluation memory (MB) ↓",
        "state (kB/stream) ↓",
        "parameters",
    ]
    if theirs:
        header.insert(4, "published time ratio")
        header.insert(8, "published memory ratio")
    lines = []
    for line in efficiency.lines:
        base = line.line.group is quality.baseline
        cells = [
            line.line.group.label + (" (stale)" if line.stale else ""),
            shown(line.line.score, quality.unit),
            _with_spread(line.time, 1),
            "1" if base and line.time.value is not None else _with_spread(line.time_ratio, 2),
            number(line.minutes, 1),
            number(_mb(line.memory), 1),
            number(line.memory_ratio, 2),
            number(_mb(line.memory_evaluation), 1),
            number(None if line.line.state_bytes is None else line.line.state_bytes / 1000, 1),
            number(line.line.parameters, 0),
        ]
        if theirs:
            cells.insert(4, number(line.time_published, 2))
            cells.insert(8, number(line.memory_published, 2))
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
    rounds = [line.time_ratio.n for line in efficiency.lines if line.time_ratio.n is not None]
    where = f"{efficiency.device}, {efficiency.threads} CPU thread(s)" if efficiency.threads else efficiency.device
    if efficiency.quality.objective == "episodes":
        state = "with memory empty where an episode begins, all episodes until the horizon"
        step = "an episode of every world and learning from it in blocks: forward, backward, clip, optimiser"
        evaluated = "an episode of every world, acting alone"
    elif efficiency.quality.objective == "documents":
        state = "with memory empty where a document begins"
        step = "a document of every row, read twice by methods that do so: forward, backward, clip, optimiser"
        evaluated = "validation's next document of every row"
    else:
        state, step, evaluated = "with memory full", "forward, backward, clip, optimiser", "a validation block"
    said: list[Text] = [
        f"Measured on {where}, after training, at the spans it has reached, {state}; timed one process at a time.",
        f"Time: one training step ({step}) outside the Trainer, median [20th, 80th "
        f"percentile] of {counts[0]}{f' to {counts[-1]}' if counts[1:] else ''} steps. "
        "All steps: as many as were trained, times it."
        if counts
        else "",
        f"Ratios to Transformer-XL: times are paired by round, {over_rounds(rounds)}."
        if efficiency.quality.baseline is not None
        else "",
        "Memory and its ratio: peak of PyTorch's allocator over a training step, weights, gradients and optimiser "
        f"included; library scratch is not in it. Evaluation: over {evaluated}.",
        _one_model(efficiency.lines),
        *_how(efficiency.lines),
    ]
    if efficiency.overhead.value is not None:
        noise = ": no more than noise" if _holds_zero(efficiency.overhead) else ""
        adds = (
            f"Lightning's Trainer adds {_percent(efficiency.overhead)} to Transformer-XL's step and its input{noise}."
        )
        said.append(adds)
    if theirs:
        said.append(
            f"Published ratios: {'; '.join(published.sources(efficiency.task))}; hardware unknown, full-size models."
        )
    if any(line.stale for line in efficiency.lines):
        again = Code("python -m bench clock runs/NAME")
        said.append(("Stale: time and memory were measured by other code than today's; ", again, " measures again."))
    said += [f"{line.line.group.label}: {line.status}." for line in efficiency.lines if line.status]
    return Bullets(tuple(line for line in said if line))


def _one_model(lines: Sequence[EfficiencyLine]) -> str:
    """That a time is one model's, where a score is a mean over several."""
    seeds = {line.line.group.label: line.seed for line in lines if line.seed is not None}
    of = sorted(set(seeds.values()))
    which = f"of seed {of[0]}" if not of[1:] else "; ".join(f"{label}: seed {seed}" for label, seed in seeds.items())
    return f"Time and memory are of one model per method ({which}); scores are means over seeds."


def _how(lines: Sequence[EfficiencyLine]) -> list[str]:
    """Whose times are to be taken with care."""
    unsteady = [line.line.group.label for line in lines if line.steady is False]
    moved = [line.line.group.label for line in lines if line.memory_steady is False]
    rebuilt = [line.line.group.label for line in lines if line.rebuilt]
    said = []
    if unsteady:
        said.append(f"Step times still changed by a tenth when timing began: {', '.join(unsteady)}.")
    if moved:
        said.append(f"Held more or less memory when timing ended than when it began: {', '.join(moved)}.")
    if rebuilt:
        said.append(
            f"Built anew for each turn, because not all fit on the device together: {', '.join(rebuilt)}. Their first "
            "steps of a turn may take longer."
        )
    return said


def _percent(measured: Measured) -> str:
    assert measured.value is not None
    text = f"{100 * measured.value:.1f} %"
    if measured.low is None or measured.high is None:
        return text
    return f"{text} [{100 * measured.low:.1f}, {100 * measured.high:.1f}]"


def _holds_zero(measured: Measured) -> bool:
    return measured.low is not None and measured.high is not None and measured.low <= 0 <= measured.high


def frame(tables: Sequence[EfficiencyTable]) -> pd.DataFrame:
    """The tables' figures, for the CSV."""
    return pd.DataFrame(
        [
            {
                "task": efficiency.quality.heading,
                "method": line.line.group.method,
                "label": line.line.group.label,
                **method_settings.columns(line.line.group),
                "device": efficiency.device,
                "threads": efficiency.threads,
                "rounds": line.time_ratio.n,
                "test": line.line.test.value if line.line.test else None,
                "time_ms_p50": line.time.value,
                "time_ms_p20": line.time.low,
                "time_ms_p80": line.time.high,
                "time_steps": line.time.n,
                "training_minutes": line.minutes,
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
                "seed": line.seed,
                "steady": line.steady,
                "memory_steady": line.memory_steady,
                "rebuilt_each_round": line.rebuilt,
                "stale": line.stale,
                "status": line.status,
            }
            for efficiency in tables
            for line in efficiency.lines
        ]
    )
