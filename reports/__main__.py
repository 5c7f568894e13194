"""`python -m reports`: makes a study's report from its stored rows, and the figure of a comparison of the clock's."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.store.command_end import WELL, WRONG_USAGE, exit_code


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 all well, 1 something failed, 2 wrong usage."""
    return exit_code("reports", lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write report.md, report.html, tables as CSV and figures of a study")
    build.add_argument("study", type=Path, metavar="runs/NAME", help="the study's folder")
    build.add_argument("--figures", action="store_true", help="draw the figures again, and nothing else")
    contexts = commands.add_parser("contexts", help="draw time and memory against context, and write their table")
    contexts.add_argument("file", type=Path, metavar="FILE.json", help="what `python -m bench clock --out` wrote")
    contexts.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default: beside the file)")
    for command in (build, contexts):
        command.add_argument("--quiet", action="store_true", help="print only the line of JSON")
    args = parser.parse_args(arguments)
    return _build(args) if args.command == "build" else _contexts(args)


def _build(args: argparse.Namespace) -> int:
    from reports.build import build_report, draw_figures

    try:
        text, files = ("", draw_figures(args.study)) if args.figures else build_report(args.study)
    except (FileNotFoundError, NotADirectoryError):
        return _refuse(f"there is no study in {args.study}. Give the folder of one, such as runs/quick.")
    return _end(args, text, "study", args.study.resolve().name, files)


def _contexts(args: argparse.Namespace) -> int:
    from bench.store.damaged import DamagedFile
    from reports.contexts import write_contexts

    remedy = "`python -m bench clock --contexts 512,2048 --out FILE.json` writes one."
    if not args.file.exists():
        return _refuse(f"there is no file {args.file}. {remedy}")
    try:
        text, files = write_contexts(args.file, args.out or args.file.parent)
    except DamagedFile as error:
        return _refuse(f"{args.file} is no comparison of the clock's: {error.why}. {remedy}")
    return _end(args, text, "comparison", args.file.stem, files)


def _refuse(text: str) -> int:
    print(f"reports: {text}", file=sys.stderr)
    return WRONG_USAGE


def _end(args: argparse.Namespace, text: str, kind: str, name: str, files: Sequence[Path]) -> int:
    if not args.quiet:
        print(text or "\n".join(map(str, files)))
    print(json.dumps({kind: name, "files": [str(path) for path in files]}))
    return WELL


if __name__ == "__main__":
    sys.exit(main())
