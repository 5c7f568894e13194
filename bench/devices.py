"""Whether this machine has the device that a cell asks for, found out before anything is trained."""

from __future__ import annotations

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
