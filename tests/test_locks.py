"""The rules of the two lock files, and the script that writes them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from models.registry import load_file

PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*(; sys_platform == '[a-z0-9]+')?")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def run_lock(checkout: Path) -> list[str]:
    return lines(checkout / "requirements.lock")


@pytest.fixture(scope="module")
def dev_lock(checkout: Path) -> list[str]:
    return lines(checkout / "requirements-dev.lock")


@pytest.fixture(scope="module")
def lock_script(checkout: Path) -> ModuleType:
    return load_file(checkout / ".ci" / "lock.py")


def test_every_line_pins_a_package_and_nothing_else(run_lock: list[str], dev_lock: list[str]) -> None:
    """So no hashes, no index, no pip options and no local labels such as +cpu: one lock for all builds of torch."""
    assert [line for line in run_lock if not PIN.fullmatch(line)] == []
    assert dev_lock[0] == "-r requirements.lock"
    assert [line for line in dev_lock[1:] if not PIN.fullmatch(line)] == []


def test_torch_and_triton_are_the_pair_that_the_cuda_build_demands(run_lock: list[str]) -> None:
    assert "torch==2.13.0" in run_lock
    assert "triton==3.7.1; sys_platform == 'linux'" in run_lock


def test_packages_of_nvidia_are_left_to_torch(run_lock: list[str], dev_lock: list[str]) -> None:
    assert not [line for line in run_lock + dev_lock if line.startswith(("nvidia", "cuda"))]


def test_pytorch_lightning_and_never_lightning(run_lock: list[str], dev_lock: list[str]) -> None:
    names = [line.partition("==")[0] for line in run_lock + dev_lock]
    assert "pytorch-lightning" in names
    assert "lightning" not in names
    assert "optuna-integration" not in names  # it imports `lightning`


def test_no_package_stands_twice(run_lock: list[str], dev_lock: list[str]) -> None:
    names = [line.partition("==")[0] for line in run_lock + dev_lock[1:]]
    assert len(names) == len(set(names))


def test_locks_hold_what_pyproject_asks_for(
    checkout: Path, run_lock: list[str], dev_lock: list[str], lock_script: ModuleType
) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {lock_script.normal_name(re.split(r"[\[<>=!~;\s]", requirement)[0]) for requirement in requirements}

    assert names(project["dependencies"] + extras["gpu"]) <= names(run_lock)
    assert names(extras["dev"] + extras["cluster"]) <= names(dev_lock[1:])
    assert not names(extras["dev"] + extras["cluster"]) & names(run_lock)


def test_held_versions_are_the_locked_ones(checkout: Path, run_lock: list[str]) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    pins = [line.partition(";")[0] for line in run_lock]
    assert [held for held in project["tool"]["spanbench"]["lock"]["hold"] if held not in pins] == []


def test_conda_environment_reads_the_same_lock(checkout: Path) -> None:
    text = (checkout / "environment.yml").read_text(encoding="utf-8")
    wanted = re.findall(r"^ +- (.*)$", text, re.MULTILINE)
    assert wanted == ["conda-forge", "python=3.11", "pip", "pip:", "-r requirements.lock"]


def test_pins_drop_labels_and_nvidia_and_keep_markers(lock_script: ModuleType) -> None:
    chosen = [
        ("torch", "2.13.0+cu130"),
        ("Typing_Extensions", "4.0"),
        ("nvidia-cudnn-cu13", "9.2"),
        ("triton", "3.7.1"),
    ]
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in chosen]}
    marker_of = lock_script.markers(["torch>=2.11", "triton>=3; sys_platform == 'linux'", "psycopg[binary]"])
    assert list(lock_script.pins(report, marker_of).values()) == [
        "torch==2.13.0",
        "triton==3.7.1; sys_platform == 'linux'",
        "typing-extensions==4.0",
    ]
