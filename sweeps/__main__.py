"""The command line, ``python -m sweeps COMMAND``: searches over settings.

A command is a file in `sweeps/commands/` with ``add_arguments(parser)`` and ``run(args) -> int``. Its last line on
stdout is one JSON object; ``--quiet`` leaves nothing else there. Cells' processes import this module too, as the one
that their runner was started with: it imports no Optuna.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bench.store.command_end import exit_code

COMMANDS = {
    "run": "runs trials until there are as many as asked for",
    "status": "shows how a sweep stands",
    "best": "shows the best trial",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0 all well, 1 something failed, 2 wrong usage or settings."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = f"sweeps {words[0]}" if words and words[0] in COMMANDS else "sweeps"
    return exit_code(name, lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    listing = "\n".join(f"  {name:<8} {about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m sweeps",
        description="Searches over the settings of a method on a task.",
        epilog=f"commands:\n{listing}\n\n`python -m sweeps COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do")
    name = parser.parse_args(words[:1]).command
    command = importlib.import_module(f"sweeps.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m sweeps {name}", description=command.__doc__)
    parser.add_argument("--quiet", action="store_true", help="print nothing on stdout but the last line, which is JSON")
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(words[1:])))


if __name__ == "__main__":
    sys.exit(main())
