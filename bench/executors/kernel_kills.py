"""Tells cells that the kernel killed for want of memory: SIGKILL ended them, and a count of the kernel's has risen."""

from __future__ import annotations

from pathlib import Path

from bench.executors import memory_cgroup


class KernelKills:
    """The kernel's kills that no cell's end explains yet.

    Args:
        root: the file system's root.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.forget()

    def forget(self) -> None:
        """Leaves all kills so far aside: no cell that begins from now on was meant."""
        self._explained = memory_cgroup.kills(self._root)

    def take(self) -> bool:
        """Whether there is a kill that explains the end of a cell; it then explains no other's."""
        now = memory_cgroup.kills(self._root)
        if now is None or self._explained is None or now <= self._explained:
            return False
        self._explained += 1
        return True
