"""Runs a sweep of toy trials as `python -m sweeps run` runs real ones; a process of its own, so that tests can kill it.

python toy_sweep.py SWEEP_DIR '{"parameters": {...}, "trials": 4, "jobs": 1, "cells": {"pause": 0.1}}'
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from bench.executors import progress
    from bench.executors.local import LocalExecutor
    from bench.runner import run_study
    from models.registry import load_file
    from sweeps import search, standing, storage
    from sweeps.trials import Trials

    toys = load_file(Path(__file__).with_name("toy_trials.py"))
    folder, order = Path(sys.argv[1]), json.loads(sys.argv[2])
    space = toys.space(order["parameters"], order.get("seed", 0), order.get("pruner"))
    cells = toys.ToyCells(**order.get("cells", {}))
    study = storage.begin(
        folder, order.get("storage"), cells.definition(), maximise=False, pruner=search.pruner(space.pruner)
    )
    show = progress.make(quiet=False)
    source = Trials(folder, study, space, cells, order["trials"], show.warn)
    try:
        with storage.problems():
            done = run_study(
                folder,
                [],
                jobs=order.get("jobs", 1),
                titles={"tasks": {"toy": {"metric": "score"}}},
                source=source,
                show=show,
                cell_function=toys.FUNCTION,
                make_executor=functools.partial(LocalExecutor, preload=[]),
            )
    finally:
        source.close()
    print(json.dumps(standing.summary(folder, study, cells.definition())))
    sys.exit(130 if done.interrupted else 0)
