"""The make targets: what they install, when they install it again, and what a user without the right Python reads.

Make runs for real, with a stand-in for Python that makes an empty `.venv` and notes what it is called with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tasks.registry import TASKS

TARGETS = {
    *("help", "setup", "bench", "bench-small", "bench-paper", *(f"bench-{task}" for task in TASKS.names())),
    *("data", "sweep", "report", "plots", "wandb-sync"),
    *("test", "test-all", "lint", "typecheck", "lock", "clean"),
}

PYTHON = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/pyvenv.cfg ;;
  *"bench run"*) echo "human text"; echo '{"study": "quick"}' ;;
esac
"""


@pytest.fixture
def project(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the Makefile, two locks and a stand-in for Python."""
    shutil.copy(checkout / "Makefile", tmp_path)
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text("torch==2.13.0\n", encoding="utf-8")
    program(tmp_path, PYTHON)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name in ("MAKEFLAGS", "MAKELEVEL", "PIP_ARGS", "ARGS", "PYTHON"):  # of the make that may be running this test
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(folder: Path, text: str) -> None:
    (folder / "python").write_text(text, encoding="utf-8")
    (folder / "python").chmod(0o755)


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = ["make", *words, f"PYTHON={project / 'python'}"]
    return subprocess.run(line, cwd=project, capture_output=True, text=True, timeout=60)


def calls(project: Path) -> list[str]:
    """What Python was called with since the last time this was asked."""
    log = project / "calls"
    found = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [call for call in found if not call.startswith("-c ")]


def test_help_lists_every_target(project: Path) -> None:
    ended = make(project)
    assert {line.split()[0] for line in ended.stdout.splitlines()} == TARGETS
    phony = re.search(r"^\.PHONY: (.+)$", (project / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == TARGETS


def test_bench_sets_up_once_and_ends_with_the_json_of_run(project: Path) -> None:
    ended = make(project, "bench", "ARGS=--jobs 2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == '{"study": "quick"}'
    assert calls(project) == [
        "-m venv .venv",
        "-m pip install -r requirements.lock",
        "-m bench run --preset quick --jobs 2",
    ]
    make(project, "bench")
    assert calls(project) == ["-m bench run --preset quick"]


def test_a_changed_lock_is_installed_again(project: Path) -> None:
    make(project, "test")
    assert calls(project)[1:] == [
        "-m pip install -r requirements.lock",
        "-m pip install -r requirements-dev.lock",
        "-m pytest",
    ]
    later = time.time() + 5
    os.utime(project / "requirements-dev.lock", (later, later))
    make(project, "lint")
    assert calls(project) == ["-m pip install -r requirements-dev.lock", "-m ruff check ."]


def test_pip_args_are_passed_on(project: Path) -> None:
    make(project, "setup", "PIP_ARGS=--no-cache-dir -v")
    assert "-m pip install --no-cache-dir -v -r requirements.lock" in calls(project)


def test_a_studys_report_and_its_figures_are_made_again(project: Path) -> None:
    make(project, "report", "STUDY=mine")
    assert calls(project)[-1] == "-m reports build runs/mine"
    make(project, "plots", "ARGS=--quiet")
    assert calls(project) == ["-m reports build runs/quick --figures --quiet"]


def test_failed_installation_is_tried_again(project: Path) -> None:
    broken = PYTHON.replace("esac", '  *"pip install"*) test -f mended ;;\nesac')
    program(project, broken)
    assert make(project, "setup").returncode != 0
    calls(project)
    (project / "mended").touch()
    assert make(project, "setup").returncode == 0
    assert calls(project) == ["-m pip install -r requirements.lock"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '#!/bin/sh\ncase "$1" in -c) exit 1 ;; *) echo Python 3.8.18 ;; esac\n',
            r"3\.11 or newer.*is: Python 3\.8\.18",
        ),
        ('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n', "python3-venv"),
    ],
)
def test_unfit_python_is_told_and_leaves_nothing(project: Path, text: str, said: str) -> None:
    program(project, text)
    ended = make(project, "bench")
    assert ended.returncode != 0
    assert re.search(said, ended.stderr)
    assert not (project / ".venv").exists()


def test_clean_keeps_results_and_data(project: Path) -> None:
    make(project, "setup")
    for name in ("runs/quick", "data", "bench/__pycache__"):
        (project / name).mkdir(parents=True)
    make(project, "clean")
    assert not (project / ".venv").exists()
    assert not (project / "bench" / "__pycache__").exists()
    assert (project / "runs" / "quick").is_dir()
    assert (project / "data").is_dir()
