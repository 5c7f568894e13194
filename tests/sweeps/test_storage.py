"""Where trials are kept: what belongs together, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from models.errors import SettingsError
from sweeps import storage

DEFINITION: dict[str, Any] = {"cell": {"train": {"steps": 3}}, "parameters": {"a": {"low": 1}}}


def begin(folder: Path, definition: dict[str, Any] = DEFINITION, url: str | None = None) -> optuna.Study:
    return storage.begin(folder, url, definition, maximise=False, pruner=optuna.pruners.NopPruner())


def test_a_sweep_is_not_written_among_other_files(tmp_path: Path) -> None:
    storage.check_folder(tmp_path / "new")
    begin(tmp_path / "mine")
    storage.check_folder(tmp_path / "mine")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "manifest.json").write_text("{}")
    for folder, problem in (("study", "other files, and no sweep"), ("study/manifest.json", "not a folder")):
        with pytest.raises(SettingsError, match=problem):
            storage.check_folder(tmp_path / folder)


def test_a_sweep_is_found_again_by_its_folder(tmp_path: Path) -> None:
    begin(tmp_path / "mine").ask()
    assert len(begin(tmp_path / "mine").trials) == 1
    assert storage.look(tmp_path / "mine", None).study_name == "mine"
    assert storage.definition(storage.look(tmp_path / "mine", None)) == DEFINITION


def test_a_folder_can_be_moved_only_with_its_name(tmp_path: Path) -> None:
    begin(tmp_path / "mine")
    (tmp_path / "mine").rename(tmp_path / "other")
    with pytest.raises(SettingsError, match="no such sweep"):
        storage.look(tmp_path / "other", None)


def test_a_sweep_goes_on_only_with_the_settings_it_began_with(tmp_path: Path) -> None:
    begin(tmp_path / "mine")
    changed = {**DEFINITION, "cell": {"train": {"steps": 4}}}
    with pytest.raises(SettingsError, match=r"^train\.steps: was 3 .* is 4 now\. .*--out"):
        begin(tmp_path / "mine", changed)


def test_sqlite_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SQLite, which is not safe for parallel trials"):
        begin(tmp_path / "mine", url=f"sqlite:///{tmp_path / 'db'}")


@pytest.mark.parametrize("url", ["nonsense", "postgresql+nothing://me:secret@127.0.0.1:1/x"])
def test_storages_that_cannot_be_used_are_named_without_the_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="--storage") as caught:
        begin(tmp_path / "mine", url=url)
    assert "secret" not in str(caught.value)


def test_folder_and_storage_belong_together(tmp_path: Path) -> None:
    begin(tmp_path / "mine")
    with pytest.raises(SettingsError, match="began with the journal in it"):
        storage.look(tmp_path / "mine", "postgresql://somewhere/else")
    (tmp_path / "mine" / "sweep.json").write_text('{"id": "another", "external_storage": false}')
    with pytest.raises(SettingsError, match="of another folder"):
        storage.look(tmp_path / "mine", None)
    (tmp_path / "mine" / "sweep.json").write_text('{"id": "anoth')
    with pytest.raises(SettingsError, match=r"sweep\.json: cannot be read"):
        storage.look(tmp_path / "mine", None)


def test_a_sweep_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no sweep"):
        storage.look(tmp_path, None)


def test_nobody_waits_for_the_lock_of_a_killed_worker(tmp_path: Path, checkout: Path) -> None:
    study = begin(tmp_path / "mine")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sweeps.storage import JournalLock\n"
        "JournalLock(Path(sys.argv[1])).acquire()\nprint('has it', flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mine" / storage.JOURNAL)]
    holder = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."})
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    began = time.monotonic()
    study.ask()
    assert time.monotonic() - began < 10, "Optuna's own locks are waited for 30 seconds"
