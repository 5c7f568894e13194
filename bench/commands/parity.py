"""Compares our methods with their authors' numbers, for every golden file of a folder.

Outputs, losses and gradients in float64; the largest relative error of each is shown, and 1e-9 is the limit, unless an
impl says that its formula leaves out something small.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="a folder of golden files: NAME.json and NAME.npz pairs"
    )
    parser.add_argument("--impl", default="reference", help="how the methods are computed (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from bench.parity import check_folder

    verdicts = check_folder(args.folder, args.impl)
    if not args.quiet:
        width = max(len(verdict.name) for verdict in verdicts)
        titles = f"{'arrays':>6}  {'worst output':>12}  {'worst gradient':>14}  {'limit':>5}"
        print(f"{'file':<{width}}  {'method':<16} {titles}")
        for verdict in verdicts:
            print(
                f"{verdict.name:<{width}}  {verdict.method:<16} {verdict.compared:>6}  {verdict.worst_output:>12.2g}  "
                f"{verdict.worst_gradient:>14.2g}  {verdict.limit:>5.0e}  {'ok' if verdict.ok else 'MISSED'}"
            )
            for problem in verdict.problems:
                print(f"  {problem}")
        print("largest relative error per file, float64")
    passed = sum(verdict.ok for verdict in verdicts)
    files = [
        {
            "name": verdict.name,
            "method": verdict.method,
            "impl": verdict.impl,
            "worst_output": finite(verdict.worst_output),
            "worst_gradient": finite(verdict.worst_gradient),
            "limit": verdict.limit,
            "compared": verdict.compared,
            "ok": verdict.ok,
            "problems": verdict.problems,
        }
        for verdict in verdicts
    ]
    print(json.dumps({"passed": passed, "failed": len(verdicts) - passed, "files": files}))
    return 0 if passed == len(verdicts) else 1


def finite(error: float) -> float | None:
    """The error, or None where it is infinite, which JSON has no word for."""
    return error if math.isfinite(error) else None
