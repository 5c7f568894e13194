"""Shows how a sweep stands: its trials with value, status, parameters and steps reached, also while it runs.

The exit code is 1 where a trial failed.
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
    definition = storage.definition(study)
    said = standing.summary(args.sweep, study, definition)
    if not args.quiet:
        print(standing.table(standing.lines(args.sweep, study), str(definition["objective"]["metric"])))
    print(json.dumps(said))
    return int(said["counts"]["failed"] > 0)
