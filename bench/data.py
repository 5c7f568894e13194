"""Downloads one file inside a zip archive, so that a broken connection costs nothing and a wrong byte is never used.

What has arrived is kept in ``<target>.zip.part`` and continued with an HTTP range request, in the same run or in the
next. The file gets its final name only after its size and md5 were verified. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 18  # bytes read at once
TIMEOUT = 30.0  # seconds without a byte before a connection counts as broken
PATIENCE = 4  # connections in a row that bring nothing before we give up

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, the bytes done and the bytes in all (None if the server does not say)."""


class DownloadError(RuntimeError):
    """A download that did not end in a verified file; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """A file inside a zip archive on the web."""

    url: str
    """Address of the archive."""
    member: str
    """Name of the file inside it."""
    size: int
    """Bytes of the file, unzipped."""
    md5: str
    """Checksum of the unzipped bytes, in hexadecimal."""


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)  # else a Python built to FIPS rules refuses


def md5_of(path: Path) -> str:
    """The md5 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def fetch(source: Source, target: Path, progress: Progress, pause: float = 1.0) -> bool:
    """Makes sure that `target` is the file that `source` describes.

    Args:
        source: where it comes from, and what it must be.
        target: where it goes; its folder is made.
        progress: told of every chunk.
        pause: seconds before the second try after a connection broke; doubled for each further one.

    Returns True if it was downloaded, False if it was there already. Raises DownloadError, and leaves what has arrived
    for the next run where that can help. An existing file that is not the right one is never overwritten.
    """
    if target.exists():
        _check_existing(source, target)
        return False
    archive = target.with_name(target.name + ".zip.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(archive, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DownloadError(f"another process is downloading to {archive}; wait for it.") from error
            if target.exists():  # finished by another process between the first look and the lock
                return False
            _check_space(source, target.parent)
            _download(source.url, part, progress, pause)
            _unzip(source, part, target, progress)
            archive.unlink()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(
            f"what {source.url} sent is not the archive ({error}); it was removed. Run this again; if it stays so, "
            "something between here and the server answers in its place (a login page, a proxy)."
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot write to {target.parent}: {error.strerror or error}. Free space there, or set SPANBENCH_DATA to "
            "another folder."
        ) from error
    return True


def _check_existing(source: Source, target: Path) -> None:
    size = target.stat().st_size
    if size != source.size:
        raise DownloadError(
            f"{target} has {size:,} bytes, {source.member} has {source.size:,}. Remove it and run this again."
        )
    if (md5 := md5_of(target)) != source.md5:
        raise DownloadError(f"{target} has md5 {md5}, {source.member} has {source.md5}. Remove it and run this again.")


def _check_space(source: Source, folder: Path) -> None:
    needed = source.size * 3 // 2  # the file and, until it is unzipped, the archive
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB are needed. Free some, or set "
            "SPANBENCH_DATA to another folder."
        )


def _download(url: str, part: BinaryIO, progress: Progress, pause: float) -> None:
    """Completes the archive in `part`; gives up after PATIENCE connections in a row that brought nothing."""
    fruitless = 0
    while True:
        had = part.seek(0, os.SEEK_END)
        try:
            if _continue(url, part, progress):
                return
            problem = "the connection broke"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DownloadError(
                    f"{url} answers {error.code} {error.reason}. Give the address of another copy with --url."
                ) from error
            problem = f"the server answers {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            problem = str(reason) or type(reason).__name__
            if isinstance(reason, socket.gaierror):  # the name is not known: there is no network, or no such server
                fruitless = PATIENCE
        have = part.seek(0, os.SEEK_END)
        fruitless = 0 if have > had else fruitless + 1
        if fruitless >= PATIENCE:
            raise DownloadError(
                f"cannot download {url}: {problem}. {have:,} bytes are kept; run this again to go on from there. "
                "Without a network, bring the unzipped file from elsewhere and set SPANBENCH_DATA to its folder."
            )
        time.sleep(pause * 2 ** max(0, fruitless - 1))


def _continue(url: str, part: BinaryIO, progress: Progress) -> bool:
    """Asks for what `part` lacks and appends it. Returns whether the archive is complete now."""
    start = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            # Nothing lies beyond what we have: it is complete, or longer than the archive and so not part of it.
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return True
            part.truncate(0)
            return False
        raise
    with response:
        length = response.headers.get("Content-Length")
        sent = response.headers.get("Content-Range", "")
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and sent.startswith(f"bytes {start}-"):
            done = start
        else:  # a server that ignores ranges sends everything again
            part.truncate(0)
            done = part.seek(0)
        total = done + int(length) if length else None
        while chunk := response.read(CHUNK):
            part.write(chunk)
            done += len(chunk)
            progress("downloading", done, total)
        part.flush()
    return total is None or done == total


def _unzip(source: Source, part: BinaryIO, target: Path, progress: Progress) -> None:
    """Unpacks the member beside `target`, verifies it and gives it its name; else raises and removes what it wrote."""
    unpacked = target.with_name(target.name + ".part")
    digest, size = _md5(), 0
    try:
        with zipfile.ZipFile(part) as archive, unpacked.open("wb") as out:
            if source.member not in archive.namelist():
                raise zipfile.BadZipFile(f"it holds no {source.member}")
            with archive.open(source.member) as member:
                while (chunk := member.read(CHUNK)) and size <= source.size:
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    progress("unpacking", size, source.size)
            out.flush()
            os.fsync(out.fileno())
        if size != source.size or digest.hexdigest() != source.md5:
            raise zipfile.BadZipFile(
                f"{source.member} in it has {size:,} bytes and md5 {digest.hexdigest()}, "
                f"not {source.size:,} and {source.md5}"
            )
        os.replace(unpacked, target)
    finally:
        unpacked.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
