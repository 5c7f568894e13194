"""Claims: at most one process works in a cell's folder, whatever dies, and on whichever machine.

A claim is an flock on the file ``lock``, held for as long as the process lives: the kernel lets go of it however the
process ends. (flock, not POSIX locks: those are lost when any other descriptor of the file is closed.) A heartbeat
beside it settles what locks cannot, between machines whose shared folder has none.

The descriptor is closed on exec and closed in forked children, so that a data loader's worker which outlives its cell
does not keep the cell locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.store import atomic, heartbeat
from bench.store.cell_folder import CellFolder
from bench.store.heartbeat import BEAT_S, STILL_S, Heartbeat, Watch

_RETRY_S = 0.25
"""Seconds for which a lock is tried: those who only look (`is_locked`) hold it for microseconds."""
_CONFIRM_S = 2 * BEAT_S
"""Seconds after which a cell taken from another machine must still be ours: a third machine may have taken it too."""


LOST = 75
"""Exit code of a cell's process whose claim was lost: the cell is taken by another machine, or its folder deleted."""
GIVEN_UP = 74
"""Exit code of a cell's process that lets go of its cell without a result, see `GivenUp`."""


class GivenUp(SystemExit):
    """Ends a cell's process without a result: the cell stays interrupted, and goes on when it is run again.

    For what says nothing about the cell: a disk that does not answer, too little memory to read a checkpoint.

    Args:
        why: what could not be done, in one line.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)


class Claim:
    """The right to work in one cell's folder. Made by `claim`."""

    def __init__(self, folder: CellFolder, descriptor: int, on_lost: Callable[[], None]) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor
        self._on_lost = on_lost
        self._beat = Heartbeat(secrets.token_hex(16), heartbeat.machine(), 0)
        self._guard = threading.Lock()
        self._ended = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name=f"heartbeat of {folder.cell}", daemon=True)

    def progress(self, phase: str, step: int = 0, steps: int = 0) -> None:
        """Says how far the cell is: with the next beat, or at once where a phase begins.

        Args:
            phase: what it does, in one word.
            step: where it is.
            steps: where the phase ends; 0 where unknown.
        """
        with self._guard:
            new_phase = phase != self._beat.phase
            self._beat = replace(self._beat, phase=phase, step=step, steps=steps)
        if new_phase:
            self._news.set()

    def where(self) -> str:
        """How far the cell is, in words: ``train 300 of 1400``; empty where it has not said."""
        return self._beat.where

    def release(self) -> None:
        """Lets another process have the cell. May be called twice."""
        self._ended = True
        self._news.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        try:
            if self._descriptor is not None and self.is_ours():
                self.folder.heartbeat_path.unlink(missing_ok=True)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def is_ours(self) -> bool:
        """Whether the heartbeat in the folder is still this claim's."""
        beat = heartbeat.read(self.folder.heartbeat_path)
        return beat is not None and beat.claimant == self._beat.claimant

    def _beat_on(self) -> None:
        succeeded = time.monotonic()
        while True:
            self._news.wait(BEAT_S)
            self._news.clear()
            if self._ended:
                return
            try:
                if not self.is_ours() or not _is_file(self.folder.lock_path, self._descriptor):
                    # Stopped for so long that another machine took over, or the folder was deleted under us.
                    self._on_lost()
                    return
                with self._guard:
                    beat = self._beat = replace(self._beat, counter=self._beat.counter + 1)
                beat.write(self.folder.heartbeat_path)
                succeeded = time.monotonic()
            except OSError as error:
                # Whose the cell is cannot be known now. The next try may tell, as long as nobody believes us dead.
                print(f"no heartbeat: {error}", file=sys.stderr, flush=True)
                if time.monotonic() - succeeded > STILL_S:
                    self._on_lost()
                    return

    def _begin(self, left: Heartbeat | None) -> bool:
        """Writes the first beat in place of the one that was `left`; False where another machine was faster."""
        if left is None:
            if not _write_new(self.folder.heartbeat_path, self._beat):
                return False
        else:
            self._beat.write(self.folder.heartbeat_path)
            if left.foreign:
                time.sleep(_CONFIRM_S)
                if not self.is_ours():
                    return False
        self._thread.start()
        return True

    def _close_in_forked_child(self) -> None:
        # Closing keeps the parent's lock; unlocking here would take it away from the parent.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_claims: weakref.WeakSet[Claim] | None = None


def claim(
    folder: CellFolder,
    *,
    on_lost: Callable[[], None] | None = None,
    stood_still: Heartbeat | None = None,
    still_s: float = STILL_S,
) -> Claim | None:
    """Claims a cell for this process, until `Claim.release` or the process's end.

    Args:
        folder: the cell's folder; it must exist.
        on_lost: called in a thread when another machine took the cell while this process stood still, or may have
            taken it, as for `STILL_S` no beat could be read or written. Without it the process ends at once: two must
            not write to one folder.
        stood_still: another machine's heartbeat that the caller has watched for long enough, and believes dead.
        still_s: how long to watch one that the caller has not watched, in seconds.

    Returns:
        the claim, or None where another process has the cell.

    Raises:
        OSError: the file system has no locks.
    """
    descriptor = _lock(folder.lock_path, time.monotonic() + _RETRY_S)
    if descriptor is None:
        return None
    new = Claim(folder, descriptor, on_lost or (lambda: os._exit(LOST)))
    _close_when_forked(new)
    left = heartbeat.read(folder.heartbeat_path)
    if left is not None and left.foreign and left != stood_still:
        left = _watch(folder.heartbeat_path, still_s)
    if left is _ALIVE:
        new._unlock()
        return None
    for leftovers in (folder.path, folder.checkpoints):
        atomic.remove_unfinished(leftovers)
    if not new._begin(left):
        new._unlock()
        return None
    return new


def is_locked(folder: CellFolder) -> bool:
    """Whether a process that shares locks with this one has the cell."""
    try:
        descriptor = os.open(folder.lock_path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: those who only look do not see one another.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_held(folder: CellFolder) -> bool:
    """Whether a process seems to have the cell, here or on another machine. For showing: only `claim` decides."""
    if is_locked(folder):
        return True
    beat = heartbeat.read(folder.heartbeat_path)
    if beat is None or not beat.foreign:
        return False
    try:
        return time.time() - folder.heartbeat_path.stat().st_mtime < STILL_S
    except FileNotFoundError:
        return False


_ALIVE = Heartbeat(claimant="", machine="", counter=-1)


def _watch(path: Path, still_s: float) -> Heartbeat | None:
    """Waits until a heartbeat has stood still for `still_s`, and returns it; `_ALIVE` as soon as it moves."""
    watch = Watch(still_s)
    dead, first = watch.dead(path)
    while not dead:
        time.sleep(min(1.0, still_s / 5))
        dead, now = watch.dead(path)
        if now != first:
            return _ALIVE
    return first


def _lock(path: Path, deadline: float) -> int | None:
    """A descriptor of `path` with an exclusive lock on it; None where it is still held at `deadline`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise OSError(
                error.errno, f"{path.parent.name}: its file system has no locks ({error.strerror}); use another --out"
            ) from error
        else:
            if _is_file(path, descriptor):
                return descriptor
            # The file was deleted between opening and locking: the lock is on nothing that others can see.
            os.close(descriptor)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)


def _is_file(path: Path, descriptor: int | None) -> bool:
    """Whether `descriptor` is the file that now stands at `path`."""
    if descriptor is None:
        return False
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write_new(path: Path, beat: Heartbeat) -> bool:
    """Writes a heartbeat where there is none; False where another machine has just written one."""
    mine = path.with_name(f".{path.name}.{beat.claimant}.unfinished")
    beat.write(mine)
    try:
        os.link(mine, path)
    except FileExistsError:
        mine.unlink()
        return False
    except OSError:
        # No hard links on this file system: an empty file, made exclusively and filled at once, decides as well.
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            mine.unlink()
            return False
        os.replace(mine, path)
        return True
    mine.unlink()
    return True


def _close_when_forked(new: Claim) -> None:
    """Has the claim's descriptor closed in children that this process forks from now on."""
    global _claims
    if _claims is None:
        _claims = weakref.WeakSet()
        os.register_at_fork(after_in_child=_close_all)
    _claims.add(new)


def _close_all() -> None:
    for held in _claims or ():
        held._close_in_forked_child()
