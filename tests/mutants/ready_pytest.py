"""Runs pytest again and again, each time in a process forked from this one, which has imported what takes long.

Nothing of the project is imported here, so each run sees the project's files as they are then. A line on standard input
is a JSON list of pytest's arguments; the answer is a line of JSON with the exit code and all that was said.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile

import pandas  # noqa: F401 - three imports that take longer than most tests
import pytest
import pytorch_lightning  # noqa: F401
import scipy.stats  # noqa: F401


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of one run."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (1, 2):
                os.dup2(said.fileno(), number)
            code = 70  # whatever ends pytest without a code
            try:
                code = int(pytest.main(arguments))
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


if __name__ == "__main__":
    gc.freeze()  # pytest collects garbage five times as it ends: what was imported here need not be gone through
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
