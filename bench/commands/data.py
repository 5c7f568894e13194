"""Downloads the whole of enwik8 and verifies it.

It goes to data/enwik8 in the checkout, or to the folder that SPANBENCH_DATA names; a copy that is already there is
verified and used. A broken download is continued, in this run or in the next.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.parse

from bench.data import DownloadError, Source, fetch
from models.errors import SettingsError
from tasks import data_files

SCHEMES = ("http", "https", "ftp", "file")
"""How an address may begin."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=data_files.ENWIK8_URL, help="address of the archive (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    check_address(args.url)
    place = data_files.enwik8_place()
    source = Source(args.url, data_files.ENWIK8_MEMBER, data_files.ENWIK8_SIZE, data_files.ENWIK8_MD5)
    show = _nothing if args.quiet else _Lines()
    try:
        downloaded = fetch(source, place, show)
    except DownloadError as error:
        print(f"bench data: {error}", file=sys.stderr)
        print(json.dumps({"path": None, "downloaded": False, "error": str(error)}))
        return 1
    if not args.quiet:
        print(f"{place}: {source.size:,} bytes, md5 {source.md5}" + ("" if downloaded else "; it was there already"))
    print(json.dumps({"path": str(place), "bytes": source.size, "md5": source.md5, "downloaded": downloaded}))
    return 0


def check_address(url: str) -> None:
    """Raises SettingsError for what is no address of a file on the web."""
    try:
        parts = urllib.parse.urlsplit(url)
        whole = parts.scheme in SCHEMES and parts.port != 0 and bool(parts.hostname or parts.scheme == "file")
    except ValueError:
        whole = False
    if not whole or re.search(r"[\s\x00-\x1f]", url):
        remedy = f"Begin it with {', '.join(f'{scheme}://' for scheme in SCHEMES)}; without spaces."
        raise SettingsError("--url", f"{url!r} is not an address", remedy)


def _nothing(doing: str, done: int, total: int | None) -> None:
    """Progress that is not shown."""


class _Lines:
    """Progress as a line that rewrites itself on a terminal, or as a line every five seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._next = time.monotonic()

    def __call__(self, doing: str, done: int, total: int | None) -> None:
        finished = done == total
        if time.monotonic() < self._next and not finished:
            return
        self._next = time.monotonic() + (0.1 if self._terminal else 5.0)
        of = f" of {total / 1e6:.1f} MB ({100 * done / total:.0f} %)" if total else " MB"
        line = f"{doing}: {done / 1e6:.1f}{of}"
        if self._terminal:
            print(f"\r{line:<60}", end="\n" if finished else "", flush=True)
        else:
            print(line, flush=True)
