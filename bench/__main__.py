"""The command line, ``python -m bench COMMAND``: picks a command, and ends with an exit code and no traceback.

A command is a file in `bench/commands/`, see `bench.command_line`; only the one that was asked for is imported.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = ("models", "tasks", "sweeps", "reports")
ABOUT = "Compares attention methods that bound what they remember."


def foreign_packages() -> dict[str, str]:
    """Our packages that Python would import from another folder than this checkout, and where it finds them."""
    found = {}
    for name in SIBLINGS:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        elsewhere = [place for place in places if not Path(place).resolve().is_relative_to(ROOT / name)]
        if elsewhere:
            found[name] = elsewhere[0]
    return found


def commands() -> dict[str, str]:
    """Command names, with the first line of each file's docstring."""
    found = {}
    for path in sorted((ROOT / "bench" / "commands").glob("*.py")):
        if path.stem != "__init__":
            about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem.replace("_", "-")] = about.partition("\n")[0].rstrip(".")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0 all well, 1 something failed, 2 wrong usage or settings."""
    words = list(sys.argv[1:] if argv is None else argv)
    foreign = foreign_packages()
    if foreign:
        for name, place in foreign.items():
            print(f"bench: the package {name} would be imported from {place}, not from this checkout.", file=sys.stderr)
        print("Run it from the checkout's root, with nothing of those names on PYTHONPATH.", file=sys.stderr)
        return 2

    # Not before here: it needs a sibling package, which had to be found in this checkout first.
    from bench.command_line import run_command
    from bench.store.command_end import exit_code

    known = commands()
    name = f"bench {words[0]}" if words and words[0] in known else "bench"
    return exit_code(name, lambda: run_command("bench", ABOUT, known, words))


if __name__ == "__main__":
    sys.exit(main())
