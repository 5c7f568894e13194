"""The statuses of a cell: what a result can say, and what follows from the files when there is no result."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a cell stands."""

    OK = "ok"
    OOM = "oom"
    TIMEOUT = "timeout"
    ERROR = "error"
    DIVERGED = "diverged"
    UNSUPPORTED = "unsupported"
    PRUNED = "pruned"

    INTERRUPTED = "interrupted"
    """Derived: it was started, has no result, and nobody runs it."""
    RUNNING = "running"
    """Derived: somebody holds its lock."""
    PENDING = "pending"
    """Derived: nothing was started."""
    DAMAGED = "damaged"
    """Derived: its result cannot be read; it will be run again."""


RESULTS = frozenset(
    {
        Status.OK,
        Status.OOM,
        Status.TIMEOUT,
        Status.ERROR,
        Status.DIVERGED,
        Status.UNSUPPORTED,
        Status.PRUNED,
    }
)
"""What may stand in a result; the others are derived."""

WELL = frozenset({Status.OK, Status.UNSUPPORTED, Status.PRUNED})
"""The results that are no failure: they leave the exit code at 0."""

_FAILED = frozenset({Status.ERROR, Status.TIMEOUT, Status.DIVERGED, Status.OOM})

RETRIED: dict[str, frozenset[Status]] = {
    "oom": frozenset({Status.OOM}),
    "failed": _FAILED,
    "stale": frozenset(),
    "all": RESULTS,
}
"""What each word of ``--retry`` runs again by status; ``stale`` goes by the fingerprint instead."""
