"""Says what works on this machine: device, versions, memory, disk, data.

Every line is `ok`, `warn` (it works, with a limit that the line names) or `fail` (something that is needed does not
work), the last two with a remedy. Any `fail` makes the exit code 1. Needs no package at all: a missing one is a line.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.data import md5_of
from bench.devices import cores
from bench.store.provenance import cpu_name, driver_version, git_state
from models.checkout import CHECKOUT
from models.errors import SettingsError
from tasks import data_files

NEEDED = ("torch", "pytorch-lightning", "numpy")  # what one cell needs; other packages serve single commands
OLDEST_LIGHTNING = (2, 6, 4)


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    """What was looked at."""
    status: Literal["ok", "warn", "fail"]
    """Whether it works."""
    value: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty for `ok`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(args: argparse.Namespace) -> int:
    checks = []
    for check in every_check():
        checks.append(check)
        if not args.quiet:
            print(f"{check.status:<5} {check.name:<18} {check.value}", flush=True)
            if check.remedy:
                print(f"{'':<24} -> {check.remedy}", flush=True)
    counts = Counter(check.status for check in checks)
    totals = {status: counts[status] for status in ("ok", "warn", "fail")}
    print(json.dumps({**totals, "checks": [asdict(check) for check in checks]}))
    return 1 if counts["fail"] else 0


def every_check() -> Iterator[Check]:
    """All checks, in the order in which they are printed."""
    yield check_python()
    yield from check_needed()
    yield check_lock(CHECKOUT / "requirements.lock")
    yield check_device()
    yield check_cores()
    yield check_memory()
    yield from check_runs(CHECKOUT / "runs")
    yield check_excerpt()
    yield check_enwik8()
    yield check_git()


def check_python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_needed() -> Iterator[Check]:
    """The packages without which no cell runs, each imported once: an installed package can still fail to load."""
    for package in NEEDED:
        module = package.replace("-", "_")
        try:
            version = str(importlib.import_module(module).__version__)
        except (ImportError, OSError) as error:
            yield Check(package, "fail", f"cannot be imported: {error}", "Run `make setup`.")
            continue
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
        if package == "pytorch-lightning" and numbers < OLDEST_LIGHTNING:
            yield Check(package, "fail", version, "2.6.4 or newer is needed: run `make setup`.")
        else:
            yield Check(package, "ok", version)
    if _installed("lightning"):
        remedy = "Its classes do not mix with those of pytorch-lightning: pip uninstall lightning"
        yield Check("lightning", "warn", f"{_installed('lightning')} is installed beside pytorch-lightning", remedy)


def check_lock(lock: Path) -> Check:
    """Compares what is installed with requirements.lock; local labels such as `+cpu` do not count."""
    missing, other = [], []
    for line in lock.read_text(encoding="utf-8").splitlines():
        pin, _, marker = line.partition(";")
        if "==" not in pin or (marker and f"'{sys.platform}'" not in marker):
            continue
        name, _, version = pin.strip().partition("==")
        found = _installed(name)
        if found is None:
            missing.append(name)
        elif found.split("+")[0] != version:
            other.append(f"{name} {found} (lock: {version})")
    if not missing and not other:
        return Check("packages", "ok", f"all as in {lock.name}")
    parts = [f"missing: {_some(missing)}"] if missing else []
    parts += [f"other versions: {_some(other)}"] if other else []
    return Check("packages", "warn", "; ".join(parts), "Run `make setup` for the versions that the tests ran with.")


def check_device() -> Check:
    """The device that training would use, proven by a small product where it is a GPU."""
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError):
        return Check("device", "fail", f"{cpu_name()}, but no PyTorch", "Run `make setup`.")
    driver = driver_version()
    if torch.cuda.is_available():
        names = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            names.append(f"{properties.name} ({properties.total_memory / 1e9:.0f} GB)")
        found = f"{', '.join(names)}; CUDA {torch.version.cuda or torch.version.hip}; driver {driver}"
        try:
            square = torch.ones(64, 64, device="cuda")
            worked = bool((square @ square == 64).all())
        except RuntimeError as error:
            worked, found = False, f"{found}; a product fails: {str(error).splitlines()[0]}"
        if not worked:
            return Check("device", "fail", found, "This PyTorch does not fit the GPU or its driver; update the driver.")
        return Check("device", "ok", found)
    if driver and torch.version.cuda is None:
        remedy = "To use the GPU, install PyTorch's CUDA build: make clean setup, without PIP_ARGS"
        return Check("device", "warn", f"{cpu_name()}; driver {driver}, but PyTorch's CPU build", remedy)
    if driver:
        remedy = "Update the driver, or look for CUDA_VISIBLE_DEVICES in the environment."
        return Check("device", "warn", f"{cpu_name()}; CUDA {torch.version.cuda} finds no GPU, driver {driver}", remedy)
    if torch.backends.mps.is_available():
        return Check("device", "ok", f"{cpu_name()} with Metal (mps)")
    return Check("device", "ok", f"{cpu_name()}; no GPU: presets quick and small are made for this")


def check_cores() -> Check:
    usable = cores()
    load = os.getloadavg()[0]
    found = f"{usable} usable; load {load:.1f}"
    if load > max(1.0, usable / 2):
        return Check("cores", "warn", found, "Other programs are running: times measured now would be too long.")
    return Check("cores", "ok", found)


def check_memory() -> Check:
    try:
        kilobytes = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        kilobytes = None
    if not kilobytes:
        return Check("memory", "ok", "free memory unknown on this system")
    free = int(kilobytes[1]) * 1024
    if free < 2e9:
        return Check("memory", "warn", f"{free / 1e9:.1f} GB free", "A cell needs about 1 GB: use --jobs 1.")
    return Check("memory", "ok", f"{free / 1e9:.1f} GB free")


def check_runs(runs: Path) -> Iterator[Check]:
    """Room for results, and locks that work: without them two processes could train the same cell."""
    folder = runs if runs.is_dir() else runs.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free for runs/"
    if free < 5e9:
        remedy = "Free some, or write elsewhere with --out."
        yield Check("disk", "fail" if free < 2e8 else "warn", found, remedy)
    else:
        yield Check("disk", "ok", found)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        remedy = "Write to a folder on another file system with --out."
        yield Check("locks", "fail", f"a file in runs/ cannot be written and locked: {error.strerror}", remedy)
    else:
        yield Check("locks", "ok", "a file in runs/ can be written and locked")


def check_excerpt() -> Check:
    try:
        text = data_files.excerpt_bytes()
    except SettingsError as error:
        return Check("enwik8-4M", "fail", f"{error.key}: {error.problem}", error.remedy)
    return Check("enwik8-4M", "ok", f"{len(text):,} bytes, sha256 right")


def check_enwik8() -> Check:
    try:
        place = data_files.full_enwik8()
    except SettingsError as error:
        return Check("enwik8", "fail", f"{error.key}: {error.problem}", error.remedy)
    if place is None:
        return Check("enwik8", "ok", "not here (`make data` downloads it); the task uses enwik8-4M")
    if (md5 := md5_of(place)) != data_files.ENWIK8_MD5:
        return Check("enwik8", "fail", f"{place}: md5 {md5} is wrong", "Remove it and run `make data`.")
    return Check("enwik8", "ok", f"{place}: {data_files.ENWIK8_SIZE:,} bytes, md5 right")


def check_git() -> Check:
    state = git_state(CHECKOUT)
    if state["commit"] is None:
        return Check("git", "warn", "no commit known", "Rows will not say which code made them: clone with git.")
    if state["dirty"]:
        return Check(
            "git", "warn", f"{state['commit'][:12]} with changes", "Commit before you measure what you publish."
        )
    return Check("git", "ok", state["commit"][:12])


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _some(names: list[str]) -> str:
    rest = len(names) - 5
    return ", ".join(names[:5]) + (f" and {rest} more" if rest > 0 else "")
