"""Where a result comes from: code, versions, device. No host name, no user name, no path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.store.fingerprint import PACKAGES
from models.checkout import CHECKOUT


def collect(accelerator: str = "auto", threads: int | None = None) -> dict[str, Any]:
    """What a reader needs to know about the process that measures.

    What PyTorch knows of the device is there only where PyTorch is loaded: a process that never loaded it has run
    nothing on one. A fact that cannot be found is None.

    Args:
        accelerator: ``trainer.accelerator``; CUDA is asked only if the cell may use it, for asking starts it.
        threads: the cell's CPU threads; those of PyTorch if not given.

    Returns:
        commit, dirty, python, torch, lightning, numpy, system, cpu, cores, memory (bytes), threads, device,
        device_memory (bytes), devices, cuda, driver.
    """
    facts: dict[str, Any] = {
        **git_state(CHECKOUT),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "lightning": _version("pytorch-lightning"),
        "numpy": _version("numpy"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory": _memory(),
        "threads": threads,
        "device": None,
        "device_memory": None,
        "devices": None,
        "cuda": None,
        "driver": None,
    }
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return facts
    facts["torch"] = torch.__version__
    facts["threads"] = threads or torch.get_num_threads()
    facts["cuda"] = torch.version.cuda or torch.version.hip
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts["device"], facts["device_memory"] = properties.name, properties.total_memory
        facts["devices"] = torch.cuda.device_count()
        facts["driver"] = driver_version()
    elif accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        facts["device"], facts["devices"] = "mps", 1
    else:
        facts["device"], facts["device_memory"], facts["devices"] = facts["cpu"], facts["memory"], 1
    return facts


def git_state(checkout: Path) -> dict[str, Any]:
    """The commit of a checkout, and whether code in its packages differs from it; both None outside git.

    Takes none of git's locks, so that cells do not disturb a commit that is being made.
    """
    git = ["git", "--no-optional-locks", "-C", str(checkout)]
    tracked = _output([*git, "ls-files", "--error-unmatch", "bench/store/provenance.py"])
    if tracked is None:
        # Unpacked from an archive, maybe into somebody else's repository, whose commit says nothing about this code.
        return {"commit": None, "dirty": None}
    folders = [name for name in PACKAGES if (checkout / name).is_dir()]
    state = _output([*git, "status", "--porcelain=v2", "--branch", "--", *folders])
    if state is None:
        return {"commit": None, "dirty": None}
    lines = state.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def cpu_name() -> str | None:
    """The processor's model name."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    return found[1].strip() if found else platform.machine()


def driver_version() -> str | None:
    """The version of the NVIDIA driver."""
    try:
        found = re.search(r"Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    if found:
        return found[1]
    listed = _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return listed.splitlines()[0] if listed else None


def _memory() -> int | None:
    """The machine's memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(command: list[str]) -> str | None:
    """What a command prints; None where it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
