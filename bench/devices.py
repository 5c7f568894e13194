"""The devices of this machine: whether there is the one that a cell asks for, and what it is called among processes."""

from __future__ import annotations

import os
import re
import subprocess

from models.errors import SettingsError


def check_accelerator(accelerator: str) -> None:
    """Raises SettingsError where ``trainer.accelerator`` names a device that PyTorch does not find here.

    Args:
        accelerator: auto, cpu, gpu (CUDA or Apple's), cuda or mps, as Lightning names them.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    found = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not found[accelerator]:
        raise SettingsError(
            "trainer.accelerator",
            f"is {accelerator}, and PyTorch finds no such device on this machine",
            "Set it to auto or cpu, or run elsewhere; `python -m bench doctor` says what is found here.",
        )


def device_type(accelerator: str) -> str:
    """The kind of device that ``trainer.accelerator`` stands for on this machine: cpu, cuda or mps.

    Args:
        accelerator: as for `check_accelerator`.
    """
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available() else "cpu"


def device_name(accelerator: str) -> str:
    """What the device is called on which this process computes: one name for one device, whichever process asks.

    A GPU is called by its number on the machine, as the first word of CUDA_VISIBLE_DEVICES gives it, not by its place
    among those that this process may see. (CUDA numbers GPUs of different kinds by speed where CUDA_DEVICE_ORDER does
    not say otherwise; processes have to agree on that order, and on numbers or UUIDs where nvidia-smi is missing.)

    It asks CUDA, and CUDA reads CUDA_VISIBLE_DEVICES once: who chooses a GPU by that must have done so before.

    Args:
        accelerator: ``trainer.accelerator``.

    Returns:
        ``cuda<number>``, or ``cpu``.
    """
    if accelerator not in ("auto", "gpu", "cuda"):
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    number = first if first.isdecimal() else _number(first)
    return f"cuda{int(number)}" if number is not None else "cuda-" + re.sub(r"[^\w.-]", "-", first)


def _number(name: str) -> str | None:
    """The number of the GPU that has this UUID, or a part (MIG) that has it; the beginning of a UUID is enough, as for
    CUDA. None where nvidia-smi does not know."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    number = None
    for line in listed.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            number = gpu[1]
        uuid = re.search(r"\(UUID: ([^)]+)\)", line)
        if uuid and uuid[1].startswith(name):
            return number
    return None


def at_a_time(accelerator: str, threads: int) -> int:
    """How many processes of so many CPU threads have room beside each other on one device: one on a GPU.

    Args:
        accelerator: ``trainer.accelerator``; threads: of each process.
    """
    return max(1, cores() // threads) if device_type(accelerator) == "cpu" else 1


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
