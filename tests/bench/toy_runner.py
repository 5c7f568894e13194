"""Runs toy cells as `python -m bench run` runs real ones; a process of its own, so that tests can kill it.

python toy_runner.py STUDY_DIR '{"cells": [["a", {"steps": 5}]], "jobs": 2, "retry": null, "preload": []}'
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from bench.executors import memory_cgroup
    from bench.executors.local import LocalExecutor
    from bench.runner import run_study
    from models.registry import load_file

    # The cells' processes import it by name: this file's folder is on their path as it is on this one's.
    toy_cells = load_file(Path(__file__).with_name("toy_cells.py"))
    order = json.loads(sys.argv[2])
    if "kernel" in order:
        # The count of a kernel that runs out of memory when a toy says so.
        memory_cgroup.kills = lambda root=None: len(list(Path(order["kernel"]).iterdir()))
    summary = run_study(
        Path(sys.argv[1]),
        [toy_cells.spec(name, **train) for name, train in order["cells"]],
        jobs=order.get("jobs", 2),
        retry=order.get("retry"),
        quiet=order.get("quiet", False),
        titles={"tasks": {"toy": {"metric": "count"}}},
        cell_function=order.get("function", toy_cells.FUNCTION),
        make_executor=functools.partial(LocalExecutor, preload=order.get("preload", [])),
    )
    print(json.dumps(summary.to_json() | {"interrupted": summary.interrupted, "damaged": summary.damaged}))
    sys.exit(summary.exit_code)
