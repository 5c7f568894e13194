"""Shows the best trial of a sweep, as flags for `python -m bench run`.

The exit code is 1 where no trial is complete.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", type=Path, metavar="runs/NAME", help="the sweep's folder")
    parser.add_argument("--storage", metavar="URL", help="where its trials are, if it was begun with --storage")


def run(args: argparse.Namespace) -> int:
    from sweeps import standing, storage

    study = storage.look(args.sweep, args.storage)
    said = standing.summary(args.sweep, study, storage.definition(study))
    best = said["best"]
    if not args.quiet:
        if best is None:
            print("no trial is complete yet")
        else:
            print(f"trial {best['trial']}: {best['metric']} {best['value']:.4f} on validation, cell {best['cell']}")
            print("--set " + " ".join(f"{key}={json.dumps(value)}" for key, value in best["parameters"].items()))
    print(json.dumps(said))
    return int(best is None)
