"""Runs one cell in this process, for a debugger: its output comes to the terminal, its result stands beside the spec.

A result that is there already is replaced, and kept under attempts/; an interrupted cell goes on from its checkpoint.
Needs torch, pytorch-lightning, numpy and the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder
from bench.store.statuses import Status
from models.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC.json", help="a cell's spec, as `run --dry-run` writes them")


def run(args: argparse.Namespace) -> int:
    spec = read_spec(args.spec)
    folder = CellFolder(args.spec.resolve().parent)

    # Not before here: a wrong spec should say so at once, and torch takes seconds.
    import torch

    from bench.executors.process import run_here

    torch.set_num_threads(spec.threads)
    result = run_here(
        folder, spec, waiting=lambda: print("waiting for the device: the clock measures on it", file=sys.stderr)
    )
    if result is None:
        print(f"bench cell: another process runs {spec.id} now.", file=sys.stderr)
        print(json.dumps({"cell": spec.id, "status": Status.RUNNING, "reason": "another process runs it", "rows": []}))
        return 1
    if not args.quiet:
        for row in result.rows:
            where = f" ({row.split})" if row.split else ""
            print(f"{row.metric}{where}: {'missing' if row.value is None else f'{row.value:.6g} {row.unit}'}")
        print(f"{spec.id}: {result.status}{f', {result.reason}' if result.reason else ''}, {result.seconds:.1f} s")
    rows = [
        {"metric": row.metric, "value": row.value, "unit": row.unit, "split": row.split, "n": row.n}
        for row in result.rows
    ]
    print(json.dumps({"cell": spec.id, "status": result.status, "reason": result.reason, "rows": rows}))
    return 0 if result.status is Status.OK else 1


def read_spec(path: Path) -> CellSpec:
    """The spec in a cell's folder.

    Raises SettingsError where the file is not there, is no spec, or was changed: then it is another cell's.
    """
    remedy = "Give the path of a spec.json, as `python -m bench run --dry-run` writes them."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError("SPEC.json", f"there is no file {path}", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("SPEC.json", f"{path} cannot be read: {error}", remedy) from error
    except json.JSONDecodeError as error:
        raise SettingsError("SPEC.json", f"{path} is not JSON: {error}", remedy) from error
    spec = CellSpec.from_json(data, path)
    name = path.resolve().parent.name
    if name != spec.id:
        remedy = f"Move it to a folder called {spec.id}: other settings make another cell."
        raise SettingsError("SPEC.json", f"it is the spec of {spec.id}, but lies in {name}", remedy, str(path))
    return spec
