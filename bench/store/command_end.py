"""How a command line ends: with an exit code, and with one line on stderr where Python would print a traceback.

Serves `python -m bench` and `python -m reports`, which both stand above the store. An error that is none of these is a
mistake in the code, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from models.errors import SettingsError

WELL, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""The exit codes: all well, something failed, wrong usage or settings, ended by Ctrl-C."""

# Errors of a path that was given; any other (a full disk, a failing one) is no fault of the command.
_WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def exit_code(name: str, command: Callable[[], int]) -> int:
    """Calls `command` and returns its exit code, or that of what it raised, which is said in a line.

    Args:
        name: what the line begins with, such as ``bench run``.
        command: prints, and returns an exit code. SystemExit passes, as a parser of arguments raises it.
    """
    _write_anywhere()
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # after --help, too, which leaves with SystemExit
    except SettingsError as error:
        return _say(name, str(error), WRONG_USAGE)
    except BrokenPipeError:  # whoever read us has gone, as `head` does; Python would complain once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
        text = ": ".join([*paths, error.strerror or str(error)])
        return _say(name, f"{text}.", WRONG_USAGE if isinstance(error, _WRONG_PATH) else FAILED)
    except UnicodeEncodeError as error:
        return _say(name, f"{error.object!r} cannot be written as {error.encoding}. Give another name.", WRONG_USAGE)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("bench", "models", "reports", "sweeps", "tasks"):
            raise
        remedy = "`make setup` installs what is needed into .venv; run .venv/bin/python, or activate it."
        return _say(name, f"this Python ({sys.executable}) has no package {error.name}. {remedy}", FAILED)
    except KeyboardInterrupt:
        return _say(name, "interrupted.", INTERRUPTED)


def _say(name: str, text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{name}: {text}", file=sys.stderr)
    return code


def _write_anywhere() -> None:
    """Has what a terminal or a file cannot hold, such as an arrow in ASCII, written as its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
