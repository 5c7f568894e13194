"""Writes a study's finished cells as W&B runs, offline: what is new, has changed or was lost; --sync uploads them.

Made from stored files alone, so it can be done at any time, and again. `bench run` does it at its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.wandb_export.settings import WandbSettings
from models.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    limit = WandbSettings.time_limit_s
    parser.add_argument("study", type=Path, metavar="runs/NAME", help="the study's folder")
    parser.add_argument("--force", action="store_true", help="write every run again")
    parser.add_argument("--sync", action="store_true", help="then upload what has not been uploaded")
    parser.add_argument("--project", metavar="NAME", help=f"(default: as before, else {WandbSettings.project})")
    parser.add_argument("--entity", metavar="NAME", help="user or team (default: as before, else the account's)")
    parser.add_argument("--time-limit", type=float, default=limit, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--online", action="store_true", help="send the runs to the server instead of writing files")
    parser.add_argument("--follow", action="store_true", help="send cells while they run, until stdin is closed")


def run(args: argparse.Namespace) -> int:
    from bench.wandb_export import ledger
    from bench.wandb_export.export import export
    from bench.wandb_export.live import follow
    from bench.wandb_export.sync import synced, upload
    from bench.wandb_export.writer import ExportError

    settings = _settings(args)
    try:
        if args.follow:
            follow(args.study, replace(settings, mode="online"))
            return 0
        done = export(
            args.study, settings, force=args.force, tell=lambda line: None if args.quiet else print(line, flush=True)
        )
    except FileNotFoundError:
        remedy = "Give a study's folder; `python -m bench run` makes one."
        raise SettingsError("runs/NAME", f"there is no study in {args.study}", remedy) from None
    except ExportError as error:
        print(f"bench wandb: {error}", file=sys.stderr)
        return 1
    if done.unsent:
        print(f"bench wandb: {done.unsent}; what could not be sent is written offline", file=sys.stderr)
    problems = list(done.problems)
    folder = ledger.folder_of(args.study)
    if args.sync and not upload(folder, settings.time_limit_s, quiet=args.quiet):
        problems.append(f"not all runs could be uploaded within {settings.time_limit_s:g} s; run it again to go on")
    for line in problems:
        print(f"bench wandb: {line}", file=sys.stderr)
    counts = {"written": len(done.written), "current": len(done.current), "synced": len(synced(folder))}
    if not args.quiet:
        where = folder if folder.is_dir() else "nowhere: no cell has ended"
        print(f"W&B runs: {counts['written']} written, {counts['current']} up to date, in {where}")
    print(json.dumps({"study": args.study.resolve().name, **counts, "folder": str(folder)}))
    return 1 if problems else 0


def _settings(args: argparse.Namespace) -> WandbSettings:
    """The flags; for what they leave open, what the study's runs were written with before."""
    from bench.store.damaged import DamagedFile
    from bench.wandb_export import ledger

    try:
        before = ledger.read(args.study)
    except DamagedFile:  # the export reports it
        before = ledger.Ledger()
    return WandbSettings(
        mode="online" if args.online else "offline",
        project=args.project or before.project or WandbSettings.project,
        entity=args.entity or before.entity,
        time_limit_s=args.time_limit,
    )
