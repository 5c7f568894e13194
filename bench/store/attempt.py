"""Beginning an attempt at a cell: what the claim's holder does first, and what it writes down in attempt.json.

attempt.json says when the attempt began, how often it was taken up, and with which code. It is what a result says of
its origin when the process that ran it could not (killed, out of time).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bench.store import atomic, metrics
from bench.store.cell_folder import CellFolder
from bench.store.damaged import DamagedFile, read_json
from bench.store.result import Result
from bench.store.statuses import Status
from bench.store.without_paths import without_paths


@dataclass(frozen=True)
class Attempt:
    """One attempt at a cell, over all processes that worked at it."""

    attempt: int
    """1 for the first."""
    started: str
    """When its first process began, ISO 8601 in UTC."""
    processes: int = 0
    """How many processes have worked at it: 2 after one interruption."""
    seconds_before: float = 0.0
    """Seconds that earlier processes measured for, as far as metrics.jsonl tells."""
    fingerprints: list[str] = field(default_factory=list)
    """The code it ran with; more than one where the code changed while it was interrupted."""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether there is nothing to go on from."""
        return self.processes <= 1

    @property
    def fingerprint(self) -> str | None:
        """The code of the result: where it changed on the way, one that no code has, so that it is shown as stale."""
        if len(self.fingerprints) < 2:
            return self.fingerprints[0] if self.fingerprints else None
        return hashlib.sha256(" ".join(self.fingerprints).encode()).hexdigest()

    def complete(self, result: Result, seconds: float) -> Result:
        """A result with everything filled in that its cell left empty.

        Args:
            result: what the cell, or whoever speaks for it, says.
            seconds: wall time of this process.
        """
        origin = {**self.provenance, **result.provenance}
        origin["fingerprint"] = self.fingerprint
        if len(self.fingerprints) > 1:
            origin["fingerprints"] = self.fingerprints
        return replace(
            result,
            reason=without_paths(result.reason),
            traceback=without_paths(result.traceback),
            provenance=origin,
            started=result.started or self.started,
            seconds=result.seconds or round(self.seconds_before + seconds, 3),
            attempt=self.attempt,
        )


def begin(folder: CellFolder, replaces: str | None, afresh: bool = False) -> list[str] | None:
    """Makes a claimed cell's folder ready, and says whether there is anything to run.

    A result that is to be replaced goes to attempts/. One that timed out, whose process died, or that cannot be read,
    is gone on from where its checkpoint is; after any other the cell starts afresh, and so it does where metrics.jsonl
    cannot be believed.

    Args:
        folder: the folder; the caller holds its claim.
        replaces: the digest of the result to run the cell in spite of; None to run it only if it has none.
        afresh: whether to start afresh even after a timeout or a death, as other code must.

    Returns:
        what the cell's log should say about it; None where there is a result, another than `replaces`: somebody else
        has run the cell since.
    """
    remarks = []
    folder.finish_archive()
    digest = folder.result_digest()
    if digest is not None:
        if digest != replaces:
            return None
        try:
            old = folder.result()
            goes_on = old is not None and (old.status is Status.TIMEOUT or old.died) and not afresh
        except DamagedFile as error:
            remarks.append(f"{error}; the cell goes on from its last checkpoint, if it has one")
            goes_on = True
        folder.archive_attempt(keep_checkpoints=goes_on)
    metrics.cut_half_line(folder.metrics_path)
    try:
        folder.records()
    except DamagedFile as error:
        remarks.append(f"{error}; the cell starts afresh")
        folder.archive_attempt(keep_checkpoints=False)
    return remarks


def note(folder: CellFolder, fingerprint: str | None, provenance: dict[str, Any]) -> Attempt:
    """Writes attempt.json for the process that now takes the attempt up, and returns it.

    Args:
        folder: the folder, after `begin`.
        fingerprint: today's code; None where it cannot be known.
        provenance: what `provenance.collect` says.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    earlier = read(folder) or Attempt(folder.attempt(), now)
    codes = list(earlier.fingerprints)
    if fingerprint is not None and fingerprint not in codes:
        codes.append(fingerprint)
    attempt = replace(
        earlier,
        attempt=folder.attempt(),
        processes=earlier.processes + 1,
        seconds_before=max((record["seconds"] for record in folder.records()), default=0.0),
        fingerprints=codes,
        provenance=provenance,
    )
    atomic.write_json(folder.attempt_path, asdict(attempt))
    return attempt


def read(folder: CellFolder) -> Attempt | None:
    """What attempt.json says; None where there is none, or none that can be read."""
    try:
        return Attempt(**read_json(folder.attempt_path))
    except (FileNotFoundError, DamagedFile, TypeError):
        return None
