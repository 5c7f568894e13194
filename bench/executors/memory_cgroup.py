"""The memory cgroup of this process and the cells that it starts: what they may take, and how many the kernel killed.

From the kernel's documentation: "Control Group v2" (``memory.max``, ``memory.current``, ``memory.stat``,
``memory.events``) and, for version 1, "Memory Resource Controller" (``memory.limit_in_bytes``,
``memory.usage_in_bytes``, ``memory.stat``, ``memory.oom_control``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Version:
    """What a version of cgroups calls its files."""

    tree: str
    limit: str
    usage: str
    inactive: str
    events: str


_VERSION_1 = _Version(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
    "memory.oom_control",
)
_VERSION_2 = _Version("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "memory.events")


def free(root: Path = Path("/")) -> int | None:
    """Bytes that may be allocated before a limit of the cgroup or of one above it is reached; None without a limit.

    Cached files that nothing has used lately count as free, as the kernel lets go of them first.

    Args:
        root: the file system's root.
    """
    found = []
    for version, folder in _cgroups(root):
        limit, usage = _number(folder / version.limit), _number(folder / version.usage)
        if limit is not None and usage is not None:
            found.append(max(limit - usage + (field(folder / "memory.stat", version.inactive) or 0), 0))
    return min(found, default=None)


def kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for want of memory, in the cgroup if it says so, else in the system.

    Args:
        root: the file system's root.

    Returns:
        the count; None where the system does not say.
    """
    for version, folder in _cgroups(root):
        count = field(folder / version.events, "oom_kill")
        if count is not None:
            return count
    return field(root / "proc/vmstat", "oom_kill")


def field(path: Path, name: str) -> int | None:
    """The number of a line such as ``name 123`` or ``name: 123 kB`` in one of the kernel's files.

    Returns:
        the number, in bytes where it stands in kB; None where there is no such file or line.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        first, *rest = line.split()
        if first.rstrip(":") == name:
            return int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return None


def _number(path: Path) -> int | None:
    """A file's number; None where it says "max", or is not there, as in the outermost cgroup."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cgroups(root: Path) -> list[tuple[_Version, Path]]:
    """The folders of this process's memory cgroup and of all above it, innermost first."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, own = line.split(":", 2)
        if "memory" in controllers.split(","):
            version = _VERSION_1
        elif number == "0":
            version = _VERSION_2
        else:
            continue
        # In a container this path may be the host's; then only the outermost folder is there, the container's own.
        inner = Path(own.lstrip("/"))
        found += [(version, root / version.tree / path) for path in dict.fromkeys([inner, *inner.parents])]
    return found
