"""The command line, ``python -m bench COMMAND``: picks a command, and ends with an exit code and no traceback.

A command is a file in `bench/commands/` with ``add_arguments(parser)`` and ``run(args) -> int``; only the one that was
asked for is imported. Its last line on stdout is one JSON object; ``--quiet`` leaves nothing else there.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = ("models", "tasks", "sweeps", "reports")


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
    from bench.store.command_end import exit_code

    known = commands()
    name = f"bench {words[0]}" if words and words[0] in known else "bench"
    return exit_code(name, lambda: _run(words, known))


def _run(words: Sequence[str], known: Mapping[str, str]) -> int:
    listing = "\n".join(f"  {name:<14} {about}" for name, about in known.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Compares attention methods that bound what they remember.",
        epilog=f"commands:\n{listing}\n\n`python -m bench COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=known, metavar="COMMAND", help="what to do")
    name = parser.parse_args(words[:1]).command
    command = importlib.import_module(f"bench.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=command.__doc__)
    parser.add_argument("--quiet", action="store_true", help="print nothing on stdout but the last line, which is JSON")
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(words[1:])))


if __name__ == "__main__":
    sys.exit(main())
