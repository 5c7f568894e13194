"""`python -m bench doctor`: a line for everything, a remedy where it does not work, and an exit code that tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.commands import doctor
from tasks import data_files


@pytest.mark.slow
def test_lines_and_json_say_the_same_and_the_exit_code_follows(checkout: Path) -> None:
    line = [sys.executable, "-m", "bench", "doctor"]
    ended = subprocess.run(line, cwd=checkout, capture_output=True, text=True, timeout=120)
    *lines, last = ended.stdout.splitlines()
    report = json.loads(last)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        check["status"] for check in report["checks"]
    ]
    assert report["ok"] + report["warn"] + report["fail"] == len(report["checks"])
    assert all(check["remedy"] for check in report["checks"] if check["status"] != "ok")
    assert ended.returncode == (1 if report["fail"] else 0)


def test_works_without_a_single_package_installed(checkout: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=False)
    line = [str(tmp_path / "empty" / "bin" / "python"), "-m", "bench", "doctor", "--quiet"]
    ended = subprocess.run(line, cwd=checkout, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended.stderr
    assert len(ended.stdout.splitlines()) == 1
    failed = {check["name"] for check in json.loads(ended.stdout)["checks"] if check["status"] == "fail"}
    assert failed == {"torch", "pytorch-lightning", "numpy", "device"}


def test_missing_and_other_versions_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("no-such-package==1.0\npytest==0.1\nnot-here==2.0; sys_platform == 'plan9'\n", encoding="utf-8")
    check = doctor.check_lock(lock)
    assert check.status == "warn"
    assert "missing: no-such-package" in check.value
    assert "pytest 9" in check.value
    assert "not-here" not in check.value


def test_local_version_label_is_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda package: "2.13.0+cpu")
    lock = tmp_path / "requirements.lock"
    lock.write_text("torch==2.13.0\n", encoding="utf-8")
    assert doctor.check_lock(lock).status == "ok"


def test_damaged_excerpt_fails_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "excerpt.xz"
    broken.write_bytes(data_files.EXCERPT.read_bytes()[:1000])
    monkeypatch.setattr(data_files, "EXCERPT", broken)
    data_files.excerpt_bytes.cache_clear()
    check = doctor.check_excerpt()
    data_files.excerpt_bytes.cache_clear()
    assert (check.status, "git checkout" in check.remedy) == ("fail", True)


def test_full_enwik8_is_judged_by_size_and_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANBENCH_DATA", str(tmp_path))
    assert doctor.check_enwik8().status == "ok"
    (tmp_path / "enwik8").write_bytes(b"short")
    assert "5 bytes" in doctor.check_enwik8().value
    with (tmp_path / "enwik8").open("r+b") as file:
        os.truncate(file.fileno(), data_files.ENWIK8_SIZE)
    check = doctor.check_enwik8()
    assert (check.status, "md5" in check.value) == ("fail", True)


def test_gpu_that_pytorch_cannot_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(cuda: str | None) -> SimpleNamespace:
        off = SimpleNamespace(is_available=lambda: False)
        return SimpleNamespace(cuda=off, version=SimpleNamespace(cuda=cuda), backends=SimpleNamespace(mps=off))

    monkeypatch.setattr(doctor, "driver_version", lambda: "470.82")
    for cuda, said in ((None, "CPU build"), ("13.0", "finds no GPU")):
        monkeypatch.setitem(sys.modules, "torch", fake(cuda))
        check = doctor.check_device()
        assert check.status == "warn"
        assert said in check.value
