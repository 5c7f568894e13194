"""`python -m reports build runs/NAME`: makes a study's report from its stored rows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.store.command_end import WELL, WRONG_USAGE, exit_code


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 all well, 1 something failed, 2 wrong usage."""
    return exit_code("reports", lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write report.md, quality.csv and rows.csv of a study")
    build.add_argument("study", type=Path, metavar="runs/NAME", help="the study's folder")
    build.add_argument("--quiet", action="store_true", help="print only the line of JSON")
    args = parser.parse_args(arguments)

    from reports.build import build_report

    try:
        text, files = build_report(args.study)
    except (FileNotFoundError, NotADirectoryError):
        print(
            f"reports: there is no study in {args.study}. Give the folder of one, such as runs/quick.", file=sys.stderr
        )
        return WRONG_USAGE
    if not args.quiet:
        print(text)
    print(json.dumps({"study": args.study.resolve().name, "files": [str(path) for path in files]}))
    return WELL


if __name__ == "__main__":
    sys.exit(main())
