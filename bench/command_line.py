"""What the command lines of `bench` and `sweeps` share: the first word picks a module, and no other is imported.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> int``, an exit code. Its last line on stdout is
one JSON object; ``--quiet``, which every command has, leaves nothing else there.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_command(package: str, about: str, commands: Mapping[str, str], words: Sequence[str]) -> int:
    """Runs the command that the first word names with the others as its arguments.

    Args:
        package: what is called, ``python -m package``; its commands are modules of ``package.commands``.
        about: what it does, in one line.
        commands: each command's name, and what it does.
        words: the arguments.

    Returns:
        the command's exit code.

    Raises:
        SystemExit: the words cannot be parsed, or ask for help.
    """
    listing = "\n".join(f"  {name:<14} {what}" for name, what in commands.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}",
        description=about,
        epilog=f"commands:\n{listing}\n\n`python -m {package} COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=commands, metavar="COMMAND", help="what to do")
    name = parser.parse_args(words[:1]).command
    command = importlib.import_module(f"{package}.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"python -m {package} {name}", description=command.__doc__)
    parser.add_argument("--quiet", action="store_true", help="print nothing on stdout but the last line, which is JSON")
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(words[1:])))


def add_plugin_flag(parser: argparse.ArgumentParser) -> None:
    """Adds ``--plugin FILE``, which may be given more than once; ``args.plugin`` is a list of paths."""
    about = "a method or task in a file of your own"
    parser.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE", help=about)
