"""Runs a study's cells as `python -m bench run` does, but watched (`watched_cells`), in a process that can be killed.

Their specs come from another study, so that this process need not import PyTorch to plan them.

python watched_runner.py STUDY_DIR PLANNED_STUDY_DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from bench.runner import run_study
    from bench.spec import CellSpec

    study, planned = Path(sys.argv[1]), Path(sys.argv[2])
    specs = [
        CellSpec.from_json(json.loads(path.read_text())).located(planned)
        for path in sorted(planned.glob("cells/*/spec.json"))
    ]
    summary = run_study(study, specs, jobs=2, retry="failed", quiet=True, cell_function="watched_cells:run_cell")
    print(json.dumps(summary.to_json() | {"damaged": summary.damaged}))
    sys.exit(summary.exit_code)
