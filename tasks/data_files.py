"""Where the text of the enwik8 task lies: the excerpt that ships with the project, and the full file if there is one.

Nothing here downloads; ``make data`` (``bench/data.py``) does. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import lzma
import os
from pathlib import Path

from models.checkout import CHECKOUT
from models.errors import SettingsError

EXCERPT = Path(__file__).resolve().parent / "data" / "enwik8_first_4000000_bytes.xz"
EXCERPT_SHA256 = "9f9ca3a41e2b87a0268d00380577e2c308e07959b22a94c8d7b1e8901bdefc37"  # of the unpacked bytes

ENWIK8_URL = "http://mattmahoney.net/dc/enwik8.zip"  # plain http: what arrives is checked by size and md5
ENWIK8_MEMBER = "enwik8"  # the file's name inside the archive
ENWIK8_SIZE = 100_000_000  # bytes, unzipped
ENWIK8_MD5 = "a1fa5ffddb56f4953e226637dabbb36a"  # of the unzipped bytes

DATA_VARIABLE = "SPANBENCH_DATA"


@functools.cache
def excerpt_bytes() -> bytes:
    """The first 4,000,000 bytes of enwik8. Raises SettingsError where the checkout's file is missing or damaged."""
    remedy = "Restore it with `git checkout -- tasks/data`."
    try:
        text = lzma.decompress(EXCERPT.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise SettingsError(f"tasks/data/{EXCERPT.name}", f"cannot be read: {error}", remedy) from error
    if hashlib.sha256(text).hexdigest() != EXCERPT_SHA256:
        raise SettingsError(f"tasks/data/{EXCERPT.name}", "its sha256 is not the published one", remedy)
    return text


def enwik8_place() -> Path:
    """Where the full enwik8 belongs, there or not.

    The file that the environment variable ``SPANBENCH_DATA`` names, or ``enwik8`` in the folder that it names; where it
    is not set, ``data/enwik8`` in the checkout.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return CHECKOUT / "data" / "enwik8"
    place = Path(named).expanduser().absolute()
    return place if place.is_file() else place / "enwik8"


def full_enwik8() -> Path | None:
    """The full enwik8 if it is on disk, else None.

    Raises SettingsError where a file stands in its place that has another size. The checksum is not computed here:
    ``make data`` verifies it before the file gets its name, and ``python -m bench doctor`` verifies it again.
    """
    place = enwik8_place()
    if not place.is_file():
        return None
    size = place.stat().st_size
    if size != ENWIK8_SIZE:
        raise SettingsError(
            DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else "data/enwik8",
            f"{place.name} has {size:,} bytes, enwik8 has {ENWIK8_SIZE:,}",
            "Remove it and run `make data`; for another text, set task.enwik8.path.",
        )
    return place
