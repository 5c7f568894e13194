"""Measures time and memory: of a study's methods again, or of methods side by side at sizes of your choice.

Without a study, methods are compared on untrained weights, at given contexts and shares of memories alive.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.clock.settings import ClockSettings
from bench.command_line import add_plugin_flag
from models.errors import SettingsError
from models.nearest import nearest

if TYPE_CHECKING:
    from bench.clock.comparison import Compared
    from bench.spec import CellSpec

T = TypeVar("T")
_OF_COMPARISONS = (
    *("impls", "contexts", "alive", "together", "scope", "batch", "heads", "head_dim", "block", "layers"),
    *("threads", "precision", "accelerator", "plugin", "time_limit", "out"),
)
"""The flags that say what to compare; a study says it itself."""


LONGEST_S = 1_000_000
"""The longest time limit; systems cannot wait for much more than twice as long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", type=Path, metavar="runs/NAME", help="a study, to measure again")
    parser.add_argument("--tasks", metavar="A,B", help="which of a study's tasks (default: all)")
    parser.add_argument("--methods", metavar="A,B", help="which methods (default: all)")
    parser.add_argument("--impls", default="auto", metavar="A,B", help="how they are computed (default: %(default)s)")
    parser.add_argument("--contexts", default="1024,4096", metavar="N,N", help="positions seen (default: %(default)s)")
    about = "memories alive: shares, or numbers of slots from 2 up (default: %(default)s)"
    parser.add_argument("--alive", default="1", metavar="S,S", help=about)
    about = "contexts take turns with each other too, and each row has a ratio to the first of them"
    parser.add_argument("--together", action="store_true", help=about)
    parser.add_argument(
        "--scope", choices=("step", "layer", "token"), default="step", help="what is timed (default: %(default)s)"
    )
    for name, default, about in (
        ("batch", 4, "rows"),
        ("heads", 4, "heads"),
        ("head-dim", 64, "width of a head"),
        ("block", 256, "tokens of a block"),
        ("layers", 4, "layers of the model"),
        ("threads", 1, "CPU threads"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{about} (default: %(default)s)")
    for name, kind, unit, about in (
        ("rounds", int, "N", "turns of each"),
        ("steps", int, "N", "timed steps of each, at least"),
        ("warmup-steps", int, "N", "steps of each before them, at most"),
        ("seconds", float, "S", "timed seconds of each, at least"),
    ):
        usual = getattr(ClockSettings(), name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=kind, metavar=unit, help=f"{about} (default: a study's own; without a study {usual})"
        )
    parser.add_argument("--precision", default="32-true", help="as Lightning names it (default: %(default)s)")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add_plugin_flag(parser)
    limit = "for each preparation, turn and memory pass (default: %(default)g)"
    parser.add_argument("--time-limit", type=float, default=3600.0, metavar="S", help=f"seconds {limit}")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep all figures and raw samples in a file")


def run(args: argparse.Namespace) -> int:
    for name in ("batch", "heads", "head_dim", "block", "layers", "threads"):
        if getattr(args, name) < 1:
            raise SettingsError(f"--{name.replace('_', '-')}", f"is {getattr(args, name)}", "Give at least 1.")
    if args.study is None and args.tasks:
        raise SettingsError("--tasks", "goes with a study only", "Name the study, or leave the flag out.")
    return _study(args) if args.study is not None else _compare(args)


def _refuse_flags_of_comparisons(args: argparse.Namespace) -> None:
    """A study's cells have their sizes: a flag that would give them others must not be passed over."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = parser.parse_args([])
    for name in _OF_COMPARISONS:
        if getattr(args, name) != getattr(defaults, name):
            flag = f"--{name.replace('_', '-')}"
            raise SettingsError(
                flag, "does not go with a study, whose cells say it", "Leave out the flag or the study."
            )


def _compare(args: argparse.Namespace) -> int:
    contexts = _list("--contexts", args.contexts, int, "whole numbers, such as 1024,4096")
    for context in contexts:
        if context < 1:
            raise SettingsError("--contexts", f"{context} is no number of positions", "Give whole numbers from 1 up.")
    alive = _list("--alive", args.alive, float, "shares, such as 1,0.5,0.1")
    for share in alive:
        if not (0 < share <= 1 or (share > 1 and share.is_integer())):
            problem = f"{share:g} is neither a share nor a number of slots"
            raise SettingsError("--alive", problem, "Give shares, above 0 and 1 at most, or whole numbers from 2 up.")
        if share > min(contexts):
            problem = f"{share:g} slots are more than the {min(contexts)} of the smallest context"
            raise SettingsError("--alive", problem, "Give fewer slots, or leave out that context.")
    if not 0 < args.time_limit <= LONGEST_S:
        raise SettingsError(
            "--time-limit", f"is {args.time_limit:g}", f"Give seconds, more than 0 and up to {LONGEST_S}."
        )
    from bench.spec import PRECISIONS

    if args.precision not in PRECISIONS:
        raise SettingsError("--precision", f"{args.precision!r} is not known", f"Known: {', '.join(PRECISIONS)}.")

    from bench.clock.comparison import Shape, compare, entries, spec_of
    from bench.clock.phase import machine
    from bench.devices import device_name, device_type
    from bench.executors.device_lock import DeviceLock
    from bench.executors.progress import StageLine
    from bench.plugins import add_plugins
    from bench.store import atomic
    from models.card import chosen_impl
    from models.errors import Unsupported
    from models.registry import METHODS

    plugins = add_plugins(args.plugin)
    methods = args.methods.split(",") if args.methods else METHODS.names()
    device = device_type(args.accelerator)
    asked = entries(methods, args.impls.split(","), contexts, alive, args.block, device)
    for method in methods if "auto" in args.impls.split(",") else ():
        reason = chosen_impl(METHODS.card(method), device)[1]
        if reason is not None:
            print(f"bench clock: {method}: auto is {reason}", file=sys.stderr)
    names = ("scope", "batch", "heads", "head_dim", "block", "layers", "precision", "threads", "accelerator")
    shape = Shape(**{name: getattr(args, name) for name in names})
    settings = _settings(args, ClockSettings())
    for entry in asked:  # what cannot work is said before anything is measured
        try:
            spec_of(entry, shape)
        except Unsupported:
            continue
    facts = machine(args.accelerator, args.threads)
    line = StageLine(args.quiet)
    lock = DeviceLock(device_name(args.accelerator))
    try:
        lock.have_alone(lambda: line("waiting for the device: cells are running on it"))
        found = compare(asked, shape, settings, plugins, line, args.time_limit, args.together)
    finally:
        lock.release()
        line.close()
    rows = [vars(compared) for compared in found]
    if args.out is not None:
        cards = {method: METHODS.card(method) for method in methods}
        about = {"shape": vars(shape), "clock": {**vars(settings), "together": args.together}, "provenance": facts}
        about["cards"] = cards
        atomic.write_json(args.out, {**about, "rows": rows})
    if not args.quiet:
        print(table(found, facts["device"]))
    print(json.dumps({"device": facts["device"], "rows": [_without_samples(row) for row in rows]}))
    return 0 if all(row["status"] in ("ok", "unsupported") for row in rows) else 1


def _study(args: argparse.Namespace) -> int:
    from bench.clock.phase import clock_study, settings_of
    from bench.executors.progress import StageLine
    from bench.spec import CellSpec
    from bench.store import clock_file, manifest

    _refuse_flags_of_comparisons(args)
    try:
        listed = manifest.read(args.study)
    except FileNotFoundError:
        raise SettingsError("runs/NAME", f"there is no study in {args.study}", "Give a study's folder.") from None
    path = manifest.manifest_path(args.study)
    specs = [CellSpec.from_json(cell, path).located(args.study) for cell in listed.cells]
    if args.methods:
        problem = "cannot go with a study, whose methods are measured together or do not compare"
        raise SettingsError("--methods", problem, "Leave it out, or leave out the study.")
    if args.tasks:
        specs = _of_tasks(specs, args.tasks.split(","), args.study)
    settings = _settings(args, settings_of(args.study, listed.command))
    line = StageLine(args.quiet)
    try:
        written = clock_study(args.study, specs, settings, again=True, tell=line)
    finally:
        line.close()
    if not written:
        remedy = "Run it first: the clock measures what has been trained, on checkpoints."
        raise SettingsError("runs/NAME", f"no cell of {args.study} is done and has its weights", remedy)
    measured = [clock_file.read(path) for path in written]
    rows: list[dict[str, Any]] = []
    for file in measured:
        for method in file.methods:
            by_name = {(row.metric, row.split): row for row in method.rows}
            median, peak = by_name.get(("time_per_batch", "train")), by_name.get(("memory_extra", "train"))
            spec = next(spec for spec in specs if spec.id == method.cell)
            rows.append(
                {
                    "task": spec.task_label,
                    "method": spec.expression,
                    "impl": spec.impl,
                    "context": None,
                    "alive": None,
                    "time_ms_p50": median.p50 if median else None,
                    "time_ms_p20": median.p20 if median else None,
                    "time_ms_p80": median.p80 if median else None,
                    "peak_bytes": peak.value if peak else None,
                    "state_bytes": _state_bytes(args.study, method.cell),
                    "status": method.status,
                }
            )
    if not args.quiet:
        for row in rows:
            time = f"{_number(row['time_ms_p50'], 1)} ms, {_number(row['peak_bytes'], 1, 1e6)} MB over static"
            print(f"{row['task']:<20} {row['method']:<32} {time}  {row['status']}")
    print(json.dumps({"device": measured[0].provenance["device"], "rows": rows}))
    return 0 if all(row["status"] == "ok" for row in rows) else 1


def _of_tasks(specs: list[CellSpec], tasks: list[str], study: Path) -> list[CellSpec]:
    """The cells of these tasks, which are named by their ids or as tables name them."""
    known = {name for spec in specs for name in (spec.task, spec.task_label)}
    for task in tasks:
        if task not in known:
            raise SettingsError("--tasks", f"{study} has no task {task!r}", nearest(task, sorted(known)))
    return [spec for spec in specs if {spec.task, spec.task_label} & set(tasks)]


def _settings(args: argparse.Namespace, usual: ClockSettings) -> ClockSettings:
    """How long to measure: as the flags say, and as usual where they say nothing."""
    flags = {name: getattr(args, name) for name in ("rounds", "steps", "seconds", "warmup_steps")}
    return replace(usual, **{name: value for name, value in flags.items() if value is not None})


def _state_bytes(study: Path, cell: str) -> float | None:
    """What a layer carried from block to block in the cell's test, in bytes per stream."""
    from bench.store import manifest

    result = manifest.cell_folder(study, cell).result()
    rows = [] if result is None else result.rows
    return next((row.value for row in rows if row.metric == "state_bytes"), None)


def _list(flag: str, text: str, kind: Callable[[str], T], what: str) -> list[T]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise SettingsError(flag, f"{text!r} is not a list of {what.split(',')[0]}", f"Give {what}.") from None


def _without_samples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "samples_ms"}


def table(found: list[Compared], device: str) -> str:
    """The comparison for people."""
    header = (
        f"{'method':<16} {'impl':<10} {'context':>8} {'alive':>12} {'ms p50':>9} {'p20':>9} {'p80':>9} "
        f"{'to XL':>6} {'to ref':>6} {'to 1st':>6} {'extra MB':>9} {'state kB':>9} status"
    )
    lines = [device, header]
    for row in found:
        lines.append(
            f"{row.method:<16} {row.impl:<10} {row.context:>8,} {row.remembers:>12} {_number(row.time_ms_p50, 1):>9} "
            f"{_number(row.time_ms_p20, 1):>9} {_number(row.time_ms_p80, 1):>9} {_number(row.time_ratio, 2):>6} "
            f"{_number(row.time_to_reference, 2):>6} {_number(row.time_to_first, 2):>6} "
            f"{_number(row.peak_bytes, 1, 1e6):>9} "
            f"{_number(row.state_bytes, 1, 1e3):>9} {row.status}{': ' + row.reason if row.reason else ''}"
        )
    return "\n".join(lines)


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"
