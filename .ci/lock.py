"""Writes requirements.lock and requirements-dev.lock from pyproject.toml, with pip alone.

pip resolves into its installation report (a dry run; nothing is installed), and this script writes down what it chose:

- requirements.lock: the dependencies and the extra `gpu`; requirements-dev.lock: the extras `dev` and `cluster` on top.
- Every package is pinned, but for those of NVIDIA: torch's CUDA build demands its own, its CPU build none.
- A local version label is cut off (`2.13.0+cpu` is written `2.13.0`, and either satisfies it).
- No hashes and no index: the same lock serves torch's CPU and CUDA builds, from whatever index the user's pip has.

It runs on the oldest supported Python, so that no chosen version demands a newer one. tests/test_locks.py holds these
rules.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
LEFT_TO_TORCH = re.compile(r"(nvidia|cuda)-")


def normal_name(name: str) -> str:
    """The form in which two spellings of one package's name are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def markers(requirements: list[str]) -> dict[str, str]:
    """By package name, the environment marker (`sys_platform == 'linux'`) of each requirement that has one."""
    found = {}
    for requirement in requirements:
        left, _, marker = requirement.partition(";")
        if marker:
            found[normal_name(re.split(r"[\s\[<>=!~]", left.strip())[0])] = marker.strip()
    return found


def pins(report: dict[str, Any], marker_of: dict[str, str]) -> dict[str, str]:
    """By package name, the line that pins it, from pip's installation report. Sorted; without NVIDIA's packages."""
    lines = {}
    for item in report["install"]:
        name, version = normal_name(item["metadata"]["name"]), item["metadata"]["version"].split("+")[0]
        if not LEFT_TO_TORCH.match(name):
            lines[name] = f"{name}=={version}" + (f"; {marker_of[name]}" if name in marker_of else "")
    return dict(sorted(lines.items()))


def resolve(python: Path, requirements: list[str], constraints: list[str], folder: Path) -> dict[str, Any]:
    """pip's report on installing `requirements` within `constraints` into an empty environment."""
    wanted, limits, report = folder / "wanted.txt", folder / "limits.txt", folder / "report.json"
    wanted.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    limits.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        str(report),
    ]
    subprocess.run([*command, "-r", str(wanted), "-c", str(limits)], check=True)
    resolved: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return resolved


def main() -> int:
    """Writes both files. Returns 2 where this Python is not the oldest supported one."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=")
    if "{}.{}".format(*sys.version_info) != oldest:
        print(f"make lock runs on Python {oldest}: make clean lock PYTHON=python{oldest}", file=sys.stderr)
        return 2
    extras = project["project"]["optional-dependencies"]
    run = project["project"]["dependencies"] + extras["gpu"]
    development = extras["dev"] + extras["cluster"]
    hold = project["tool"]["spanbench"]["lock"]["hold"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        run_pins = pins(resolve(python, run, hold, folder), markers(run))
        held = list(run_pins.values())
        added = pins(resolve(python, run + development, held, folder), markers(run + development))
    head = "# Made by `make lock` from pyproject.toml; do not edit."
    (CHECKOUT / "requirements.lock").write_text("\n".join([head, *run_pins.values()]) + "\n", encoding="utf-8")
    only_added = [line for package, line in added.items() if package not in run_pins]
    text = "\n".join([head, "-r requirements.lock", *only_added]) + "\n"
    (CHECKOUT / "requirements-dev.lock").write_text(text, encoding="utf-8")
    print(f"requirements.lock: {len(run_pins)} packages; requirements-dev.lock: {len(only_added)} more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
