"""The command line, ``python -m sweeps COMMAND``: searches over settings.

A command is a file in `sweeps/commands/`, see `bench.command_line`. Cells' processes import this module too, as the one
that their runner was started with: it imports no Optuna.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.command_line import run_command
from bench.store.command_end import exit_code

ABOUT = "Searches over the settings of a method on a task."
COMMANDS = {
    "run": "runs trials until there are as many as asked for",
    "status": "shows how a sweep stands",
    "best": "shows the best trial",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0 all well, 1 something failed, 2 wrong usage or settings."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = f"sweeps {words[0]}" if words and words[0] in COMMANDS else "sweeps"
    return exit_code(name, lambda: run_command("sweeps", ABOUT, COMMANDS, words))


if __name__ == "__main__":
    sys.exit(main())
