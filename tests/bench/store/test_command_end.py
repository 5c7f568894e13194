"""What goes wrong around a command is one line and an exit code; a mistake in the code keeps its traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.store.command_end import exit_code
from models.errors import SettingsError


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("--jobs", "is 0", "Give at least 1."), 2, "bench x: --jobs: is 0. Give at least 1.\n"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 2, "bench x: a/b: No such file or directory.\n"),
        (NotADirectoryError(20, "Not a directory", b"a/b"), 2, "bench x: a/b: Not a directory.\n"),
        (PermissionError(13, "Permission denied", "a", None, "b"), 2, "bench x: a: b: Permission denied.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a"), 1, "bench x: a: No space left on device.\n"),
        (OSError("no driver"), 1, "bench x: no driver.\n"),
        (KeyboardInterrupt(), 130, "bench x: interrupted.\n"),
    ],
)
def test_error_is_one_line(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("bench x", raising(error)) == code
    assert capsys.readouterr().err == said


def test_name_that_no_file_can_hold_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("bench x", lambda: len("\udcff".encode())) == 2
    assert "cannot be written as utf-8. Give another name." in capsys.readouterr().err


def test_missing_package_says_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        import no_such_package  # type: ignore[import-not-found]

        return int(no_such_package.x)

    assert exit_code("bench x", command) == 1
    assert "has no package no_such_package. `make setup` installs" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TypeError("a mistake"), ModuleNotFoundError("no module", name="models.nothing")])
def test_mistake_in_the_code_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_code("bench x", raising(error))


def test_what_the_output_cannot_hold_is_written_as_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    def command() -> int:
        print("bpb ↓ \udcff")
        return 0

    assert exit_code("bench x", command) == 0
    assert stream.buffer.getvalue() == b"bpb \\u2193 \\udcff\n"


def test_output_that_nobody_reads_is_no_error_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    stream = open(write, "w")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", stream)

    def command() -> int:
        print("x")
        return 0

    assert exit_code("bench x", command) == 1
    assert capsys.readouterr().err == ""
    stream.close()
