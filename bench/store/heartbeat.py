"""heartbeat.json: who runs a cell and how far it is, as a counter that moves.

On one machine the lock alone says whether a cell is held. Between machines that share a folder but not its locks, a
heartbeat that another machine left is believed alive until it has stood still for `STILL_S`, watched: clocks are not
compared. No machine is named: only a hash tells one from another.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.store import atomic
from bench.store.damaged import DamagedFile, read_json

BEAT_S = 2.0
"""Seconds between two beats."""
STILL_S = 30.0
"""Seconds without a beat after which another machine's process is believed dead."""


@dataclass(frozen=True)
class Heartbeat:
    """One beat."""

    claimant: str
    """A random name, new with every claim."""
    machine: str
    """Hash of the running system's boot id: another one after a reboot."""
    counter: int
    """Beats so far."""
    phase: str = ""
    """What the cell does now, such as train or evaluate."""
    step: int = 0
    steps: int = 0
    """The last step of the phase; 0 where unknown."""

    def write(self, path: Path) -> None:
        """Replaces the heartbeat at once; not durably, for it means nothing after a power cut."""
        atomic.write_json(path, asdict(self), durable=False)

    @property
    def where(self) -> str:
        """How far the cell is, in words: ``train 300 of 1400``; empty where it has not said."""
        if not self.step:
            return self.phase
        return f"{self.phase} {self.step}" + (f" of {self.steps}" if self.steps else "")

    @property
    def foreign(self) -> bool:
        """Whether another machine (or this one before its last start) wrote it."""
        return self.machine != machine()


def read(path: Path) -> Heartbeat | None:
    """The heartbeat in a file; None where there is none. One that cannot be read counts as another machine's."""
    try:
        data = read_json(path)
        return Heartbeat(**{name: kind(data[name]) for name, kind in _FIELDS.items()})
    except FileNotFoundError:
        return None
    except (DamagedFile, KeyError, TypeError, ValueError) as error:
        return Heartbeat(claimant="unreadable", machine=f"unreadable: {error}", counter=0)


_FIELDS: dict[str, Any] = {"claimant": str, "machine": str, "counter": int, "phase": str, "step": int, "steps": int}


@functools.cache
def machine() -> str:
    """What tells this machine's processes from those of others: a hash of the boot id."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        boot = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        except OSError:
            # Without a boot id every process is a machine of its own: what others left is watched before it is taken.
            boot = secrets.token_hex(16)
    return hashlib.sha256(f"spanbench {boot.strip()}".encode()).hexdigest()


class Watch:
    """Looks at left-over heartbeats again and again, and says which have stood still for long enough.

    Args:
        still_s: seconds.
    """

    def __init__(self, still_s: float = STILL_S) -> None:
        self.still_s = still_s
        self._seen: dict[Path, tuple[Heartbeat, float]] = {}

    def dead(self, path: Path) -> tuple[bool, Heartbeat | None]:
        """Whether nobody on another machine is behind a heartbeat file; with it the beat that this rests on, if any.

        The first look at another machine's heartbeat always says no.
        """
        beat = read(path)
        if beat is None or not beat.foreign:
            self._seen.pop(path, None)
            return True, None
        now = time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if known != beat:
            self._seen[path] = (beat, now)
            return False, beat
        return now - since >= self.still_s, beat
