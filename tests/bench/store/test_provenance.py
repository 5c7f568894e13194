"""Provenance: the code, the versions, the device; and nothing that names a person or a place."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import provenance
from models.checkout import CHECKOUT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one of our files in it."""
    path = tmp_path / "checkout"
    (path / "bench" / "store").mkdir(parents=True)
    shutil.copy(provenance.__file__, path / "bench" / "store" / "provenance.py")
    git(path, "init", "-q")
    git(path, "add", ".")
    git(path, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "first")
    return path


def git(path: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(path), *words], check=True, capture_output=True, text=True).stdout.strip()


def test_it_names_code_versions_and_processor_but_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    facts = provenance.collect("cpu", threads=3)
    assert facts["threads"] == 3
    assert facts["torch"].startswith("2.")
    assert facts["cpu"]
    assert facts["memory"] > 10**9
    assert facts["device"] is None, "PyTorch is not loaded: nothing can have run on a device"
    text = json.dumps(facts)
    assert os.uname().nodename not in text
    assert f'"{getpass.getuser()}"' not in text
    assert str(CHECKOUT) not in text
    assert str(Path.home()) + "/" not in text


def test_a_clean_checkout_is_clean_and_a_changed_one_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert provenance.git_state(repository) == {"commit": commit, "dirty": False}
    (repository / "notes.txt").write_text("not code")
    assert provenance.git_state(repository)["dirty"] is False
    (repository / "bench" / "new.py").write_text("code = 1\n")
    assert provenance.git_state(repository) == {"commit": commit, "dirty": True}


def test_outside_its_own_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}


def test_looking_at_git_takes_no_lock(repository: Path) -> None:
    (repository / ".git" / "index.lock").touch()
    assert provenance.git_state(repository)["commit"]


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(repository) == {"commit": None, "dirty": None}
