"""Runs a study: every cell of a preset that has no result yet, then the clock, the report and the W&B runs.

The study is checked as a whole before anything is written. Running it again runs what is missing, interrupted or
damaged; results stay, failures too, until --retry asks for them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import presets
from bench.command_line import add_plugin_flag
from bench.commands.status import summary
from bench.devices import cores
from bench.report import ReportError, build_report, report_page
from bench.store.statuses import RETRIED
from bench.study_preset import DEFAULT, check_judge, preset_of
from models.errors import SettingsError

if TYPE_CHECKING:
    from bench.settings import Key
    from bench.spec import CellSpec
    from bench.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--preset",
        metavar="NAME",
        help="a preset that `python -m bench list` shows (default: that of the study in --out, else quick)",
    )
    source.add_argument("--config", type=Path, metavar="FILE", help="a file of your own in a preset's format")
    parser.add_argument("--tasks", metavar="A,B", help="only these of its tasks")
    parser.add_argument(
        "--methods",
        metavar="A,B",
        help="these methods instead: id, or id+key=value, with its own keys, train.* or backbone.*",
    )
    parser.add_argument("--seeds", metavar="0,1,2", help="these seeds instead")
    parser.add_argument("--out", type=_folder, metavar="runs/NAME", help="the study's folder (default: runs/PRESET)")
    add_plugin_flag(parser)
    parser.add_argument("--executor", default="local", metavar="local", help="where cells run: on this machine")
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, metavar="N", help="cells at a time (default: one per GPU or CPU core)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting; --keys lists them"
    )
    parser.add_argument("--retry", choices=RETRIED, help="run these results again too; the old ones are kept")
    parser.add_argument("--dry-run", action="store_true", help="write the cells' specs and run nothing")
    parser.add_argument(
        "--keys", action="store_true", help="list what --set takes for these tasks and methods, and stop"
    )


def run(args: argparse.Namespace) -> int:
    if args.executor != "local" or args.address:
        remedy = "Leave out --executor and --address: cells run on this machine."
        raise SettingsError("--executor", "this version has no executor but local", remedy)
    if args.jobs is not None and args.jobs < 1:
        raise SettingsError("--jobs", f"is {args.jobs}", "Give at least 1.")
    # A folder that nobody named is that of the preset, so its study may not choose another one.
    named = args.preset or (None if args.out or args.config else DEFAULT)
    out: Path = args.out or Path("runs") / (args.config.stem if args.config else named or DEFAULT)
    check_folder(out)
    preset = preset_of(out, named, args.config)
    path = args.config or presets.path(preset)
    tasks, methods, seeds = _words("--tasks", args.tasks), _words("--methods", args.methods), _numbers(args.seeds)

    # Not before here: these import torch, and wrong flags should say so at once.
    from bench.plugins import add_plugins
    from bench.presets.preset import read
    from bench.study import plan, settable

    source = str(args.config) if args.config else f"bench/presets/{preset}.yaml"
    study = plan(
        read(path, source),
        name=out.resolve().name,
        preset_name=preset,
        tasks=tasks,
        methods=methods,
        seeds=seeds,
        assignments=args.set,
        plugins=add_plugins(args.plugin),
        check_device=not args.keys,
    )
    if args.keys:
        return _list_keys(settable(study.parts), args.quiet)

    check_judge(out, study.judged_by)
    for method, fall_back in study.fall_backs.items():
        print(f"bench run: {method}: auto is {fall_back}", file=sys.stderr)

    labels: dict[str, Any] = {"preset": preset, "titles": study.cards, "command": _recorded(args, preset, study)}
    if args.dry_run:
        return _write_specs(out, study, labels, args.quiet)

    from bench.runner import run_study
    from bench.wandb_export.beside import cells_sent

    jobs = args.jobs or default_jobs(study.cells)
    with cells_sent(out, study.wandb):
        done = run_study(
            out, study.cells, jobs=jobs, retry=args.retry, quiet=args.quiet, memory_limit=study.memory_limit, **labels
        )
    code, report = done.exit_code, None
    interrupted = done.interrupted
    if not interrupted and study.clock.enabled:
        measured = _clock(out, study, args.quiet)
        interrupted, code = measured is None, 130 if measured is None else code or int(not measured)
    if not interrupted:
        try:
            report, text = build_report(out)
        except ReportError as error:
            print(f"bench run: the report could not be built: {error}", file=sys.stderr)
            code = code or 1
        else:
            if not args.quiet:
                print(text)
        code = _export(out, study, args.quiet, code)
    print(json.dumps({**done.to_json(), "report": report}))
    return code


def _clock(out: Path, study: Study, quiet: bool) -> bool | None:
    """The clock phase, for all cells that the study has, asked for now or before: only together do they compare.

    Returns:
        whether all that can be measured has been, now or before; what has not is said on stderr. None where Ctrl-C
        ended it: what had been measured of other tasks is kept.
    """
    from bench.clock.phase import clock_study, failures
    from bench.executors.progress import StageLine
    from bench.spec import CellSpec
    from bench.store import manifest

    specs = [CellSpec.from_json(cell).located(out) for cell in manifest.read(out).cells]
    line = StageLine(quiet)
    try:
        clock_study(out, specs, study.clock, tell=line)
    except KeyboardInterrupt:
        return None
    finally:
        line.close()
    unmeasured = failures(out, specs)
    for failure in unmeasured:
        print(f"bench run: clock: {failure}", file=sys.stderr)
    return not unmeasured


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: give the study's folder, such as runs/mine")
    return Path(text)


def check_folder(out: Path) -> None:
    """Raises SettingsError where a study would be written over, or among, something else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SettingsError("--out", f"{out} is not a folder", "Give the study another name.")
    names = {path.name for path in out.iterdir()}
    if names and not names & {"manifest.json", "manifest.lock", "cells"}:
        raise SettingsError("--out", f"{out} holds other files, and no study", "Give a new folder, such as runs/mine.")


def _export(out: Path, study: Study, quiet: bool, code: int) -> int:
    """Writes the cells' W&B runs. Returns the exit code, given that of what came before."""
    from bench.wandb_export.beside import export_study

    try:
        return code if export_study(out, study.wandb, quiet=quiet) else code or 1
    except KeyboardInterrupt:
        return 130


def _write_specs(out: Path, study: Study, labels: dict[str, Any], quiet: bool) -> int:
    """What ``--dry-run`` does."""
    from bench.store import manifest
    from bench.store.study_status import study_status

    _, damage = manifest.merge(out, study.cells, **labels)
    if damage:
        print(f"bench run: {damage}; it is made again, and the old one is kept beside it", file=sys.stderr)
    if not quiet:
        for cell in study.cells:
            print(f"python -m bench cell {manifest.cell_folder(out, cell.id).spec_path}")
    print(json.dumps(summary(study_status(out), report_page(out))))
    return 0


def default_jobs(cells: Sequence[CellSpec]) -> int:
    """How many cells to run at a time: one for each GPU, or as many as there are CPU cores for their threads."""
    import torch

    on_cpu = all(cell.trainer["accelerator"] == "cpu" for cell in cells)
    if not on_cpu and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        # The executor gives a cell that wants one GPU one of its own.
        return torch.cuda.device_count() or 1 if all(cell.trainer["devices"] == 1 for cell in cells) else 1
    return max(1, min(len(cells), cores() // max(cell.threads for cell in cells)))


def _words(flag: str, text: str | None) -> list[str] | None:
    """The parts of a flag's list; None where the flag was not given."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise SettingsError(flag, f"{text!r} has an empty part", "Write names with commas between them.")
    return words


def _numbers(text: str | None) -> list[int] | None:
    words = _words("--seeds", text)
    try:
        return None if words is None else [int(word) for word in words]
    except ValueError:
        raise SettingsError("--seeds", f"{text!r} is not a list of whole numbers", "Write 0,1,2.") from None


def _recorded(args: argparse.Namespace, preset: str, study: Study) -> dict[str, Any]:
    """The command as the manifest keeps it, and for how long the clock measures by it: no paths."""
    return {
        "preset": preset,
        "config": args.config.name if args.config else None,
        "tasks": args.tasks,
        "methods": args.methods,
        "seeds": args.seeds,
        "plugins": [path.name for path in args.plugin],
        "set": [_without_path(assignment) for assignment in args.set],
        "clock": asdict(study.clock),
    }


def _without_path(assignment: str) -> str:
    key, equals, value = assignment.partition("=")
    return f"{key}{equals}{os.path.basename(value) if os.path.isabs(value) or os.path.exists(value) else value}"


def _list_keys(keys: Sequence[Key], quiet: bool) -> int:
    if not quiet:
        for key in keys:
            print(f"{key.key} = {json.dumps(key.default)}\n    {key.help} ({key.type})")
    listing = {key.key: {"type": key.type, "default": key.default, "help": key.help} for key in keys}
    print(json.dumps({"keys": listing}))
    return 0
