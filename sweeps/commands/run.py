"""Runs a sweep: trials until there are --trials of them, and then the report of their cells.

Running it again goes on: trials that have ended stay, interrupted ones are taken up from their cells' last checkpoints.
Several of it may work at one sweep at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.command_line import add_plugin_flag
from bench.report import ReportError, build_report
from models.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "space", type=Path, metavar="SPACE.yaml", help="what is searched, such as sweeps/spaces/quick.yaml"
    )
    parser.add_argument("--trials", type=int, required=True, metavar="N", help="how many in all, earlier ones included")
    parser.add_argument(
        "--storage", metavar="URL", help="PostgreSQL for trials (default: a journal in the sweep's folder)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: one per GPU or CPU core)")
    parser.add_argument("--out", type=Path, metavar="runs/NAME", help="the sweep's folder (default: runs/sweep-SPACE)")
    add_plugin_flag(parser)
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="fix a setting, over the file's own"
    )


def run(args: argparse.Namespace) -> int:
    for flag, value in (("--trials", args.trials), ("--jobs", args.jobs)):
        if value is not None and value < 1:
            raise SettingsError(flag, f"is {value}", "Give at least 1.")

    # Not before here: these import torch and Optuna, and wrong flags should say so at once.
    from optuna.trial import TrialState

    from bench.commands.run import default_jobs
    from bench.executors import progress
    from bench.plugins import add_plugins
    from bench.runner import run_study
    from bench.wandb_export.beside import cells_sent, export_study
    from sweeps import search, standing, storage
    from sweeps.space import read
    from sweeps.trial_cells import TrialCells
    from sweeps.trial_progress import TrialProgress
    from sweeps.trials import Trials

    out: Path = args.out or Path("runs") / f"sweep-{args.space.stem}"
    storage.check_folder(out)
    plugins = add_plugins(args.plugin)
    space = read(args.space)
    cells = TrialCells(space, out.resolve().name, args.set, plugins)
    for method, fall_back in cells.study.fall_backs.items():
        print(f"sweeps run: {method}: auto is {fall_back}", file=sys.stderr)
    definition = cells.definition()
    study = storage.begin(
        out, args.storage, definition, maximise=cells.higher_is_better, pruner=search.pruner(space.pruner)
    )
    jobs = args.jobs or default_jobs(cells.study.cells * args.trials)
    trials = study.get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    begins = f"sweep {study.study_name}: {args.trials} trials"
    begins += f", {ended} done before" if ended else ""
    open_now = sum(trial.state == TrialState.RUNNING for trial in trials)
    begins += f", {open_now} begun" if open_now else ""
    begins += f", {jobs} at a time; {cells.metric} on validation, {_direction(cells.higher_is_better)} is better"

    def label(cell: str) -> str:
        return "; ".join(f"trial {trial.number} ({', '.join(_assigned(trial.params))})" for trial in source.of(cell))

    left = max(args.trials, len(trials)) - ended
    show = TrialProgress(progress.make(args.quiet), begins, label, left, cells.metric)
    source = Trials(out, study, space, cells, args.trials, show.warn)
    try:
        with storage.problems(), cells_sent(out, cells.study.wandb):
            done = run_study(
                out,
                [],
                jobs=jobs,
                titles={**cells.study.cards, "presets": {study.study_name: {"about": space.about}}},
                command={"config": args.space.name, "trials": args.trials},
                memory_limit=cells.study.memory_limit,
                source=source,
                show=show,
            )
    finally:
        source.close()
    report, code = None, 0
    if not done.interrupted:
        try:
            report, _ = build_report(out)
        except ReportError as error:
            print(f"sweeps run: the report could not be built: {error}", file=sys.stderr)
            code = 1
        code = code if export_study(out, cells.study.wandb, quiet=args.quiet) else 1
    said = standing.summary(out, study, definition)
    if not args.quiet:
        print(standing.table(standing.lines(out, study), cells.metric))
        if report:
            print(f"report: {report}")
    print(json.dumps({**said, "report": report}))
    if done.interrupted:
        return 130
    numbers = said["counts"]
    return code or int(numbers["failed"] > 0 or sum(numbers[state] for state in standing.ENDED) < args.trials)


def _direction(higher_is_better: bool) -> str:
    return "higher" if higher_is_better else "lower"


def _assigned(parameters: dict[str, object]) -> list[str]:
    from sweeps.standing import shown

    return [f"{key.rpartition('.')[2]} {shown(value)}" for key, value in parameters.items()]
