"""Tells an exception that means "out of memory" from others, on every device."""

from __future__ import annotations

_SIGNS = (
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "cuda out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)
"""What the messages of those errors have in common that have no type of their own (PyTorch's CPU allocator, mmap, C++,
CUDA and its libraries)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the allocator of a device, or the system, had no more memory to give."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error).lower() for sign in _SIGNS)
