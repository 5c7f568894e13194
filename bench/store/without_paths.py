"""Takes out of a text where things lie on a machine: folders tell who works there, and on what.

Paths in the checkout become relative to it. Of others the last part stays, ``.../corpus.txt``, where it looks like a
file's name or belongs to the system; one that may be a folder, and so a user's name, goes as well. What cannot be told
from other words (a path without quotes whose folders have spaces) is cut rather too long than too short.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from models.checkout import CHECKOUT

_PART = r"[^\s/:;,'\"<>|()\[\]{}]+"
_UP = r"(?:~(?:[a-z_][\w.-]*)?|\.\.(?:/\.\.)*)(?=/)"  # ~, ~name, ..
_FRESH = r"(?<![\w.~/-])"  # not in the middle of a relative path or of a word
_BEGINNING = rf"(?:file://[\w.-]*(?=/)|{_FRESH}{_UP}|{_FRESH}(?=/[\w.][^/\s]*/)|(?=/(?:home|Users)/))"
_FOLDER = rf"(?:/(?:home|Users)/[^/\n:;,'\"<>|]+|/{_PART}(?:[ ][A-Z0-9]{_PART})*)(?=/)"
_FOUND = re.compile(
    r"(?P<address>\b(?!file:)[a-z][a-z0-9+.-]{0,15}://\S*)"
    rf"|(?P<quote>['\"])(?P<quoted>(?:file://[\w.-]*|{_UP})?/[\w.][^'\"\n]*/[^'\"\n]*)(?P=quote)"
    rf"|{_BEGINNING}(?:{_FOLDER})*/(?:{_PART})?"
)
_FILE = re.compile(r"[^.].*\.\w{1,10}")
_SYSTEM = re.compile(r"/(?:bin|dev|etc|lib|lib64|proc|sys|usr)/")
_HOME = re.compile(r".*/(?:home|Users)/[^/]*")


def without_paths(text: str) -> str:
    """The text with paths in the checkout made relative to it, and other folders left out; web addresses stay."""
    text = re.sub(rf"(?<![\w.~-]){re.escape(str(CHECKOUT) + os.sep)}", "", text)
    home = str(Path.home())
    if len(Path(home).parts) > 1:
        # The one name whose spaces and place are known.
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "/home/~", text)
    return _FOUND.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    if found["address"]:
        return found[0]
    quote, path = found["quote"] or "", found["quoted"] or found[0]
    name = path.rpartition("/")[2]
    word = name.rstrip(".")  # the end of a sentence
    stays = word and not _HOME.fullmatch(path) and (_FILE.fullmatch(word) or _SYSTEM.match(path))
    return f"{quote}...{f'/{name}' if stays else name[len(word) :]}{quote}"
