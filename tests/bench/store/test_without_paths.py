"""Stored texts name no folder of the machine they were made on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.store.without_paths import without_paths
from models.checkout import CHECKOUT


def test_paths_of_the_checkout_become_relative_and_other_folders_go() -> None:
    text = (
        f'File "{CHECKOUT}/bench/cell.py", line 3\n  File "/usr/lib/python3/x.py", line 9\n'
        "there is no file /srv/deep/corpus.txt; see https://pytorch.org/docs/stable a/b 1/2"
    )
    assert without_paths(text) == (
        'File "bench/cell.py", line 3\n  File ".../x.py", line 9\n'
        "there is no file .../corpus.txt; see https://pytorch.org/docs/stable a/b 1/2"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cd <home>/alice", "cd ..."),
        ("cd <home>/alice.smith", "cd ..."),
        ("cd <home>/alice.", "cd ...."),
        ("cd <home>/alice/", "cd ..."),
        ("in /mnt/projects/alice now", "in ... now"),
        ("no file <Users>/Alice Smith/x/corpus.txt", "no file .../corpus.txt"),
        ("no file '<Users>/Alice Smith/x/my corpus.txt'", "no file '.../my corpus.txt'"),
        ("no file /mnt/Alice Smith/x/corpus.txt, no use", "no file .../corpus.txt, no use"),
        ("no file '/mnt/alice smith/corpus.txt'", "no file '.../corpus.txt'"),
        ("../..<home>/alice/x/corpus.txt: no use", ".../corpus.txt: no use"),
        ("../alice_home/secret_user/corpus.txt", ".../corpus.txt"),
        ("file://<home>/alice/x/corpus.txt", ".../corpus.txt"),
        ("file://localhost<home>/alice", "..."),
        ("open ~/secret/corpus.txt and ~alice/notes.md", "open .../corpus.txt and .../notes.md"),
        ("error:<home>/alice/corpus.txt", "error:.../corpus.txt"),
        ("PATH=<home>/alice/bin:/opt/alice/bin", "PATH=...:..."),
        ("-I<home>/alice/include", "-I..."),
        ("[Errno 2] '/srv/alice/data'", "[Errno 2] '...'"),
        ("/usr/bin/nvcc and /proc/driver/nvidia", ".../nvcc and .../nvidia"),
        ("see /srv/a/b.txt and 1/2", "see .../b.txt and 1/2"),
        ("see http:/<home>/alice/x.html", "see http:/<home>/alice/x.html"),
        ("x /= y // 2; a/b; tokens/s; n / m; 'a/b'", "x /= y // 2; a/b; tokens/s; n / m; 'a/b'"),
    ],
)
def test_names_of_users_and_folders_go_and_names_of_files_stay(text: str, shown: str) -> None:
    # In pieces, for no file of the project names a home.
    whole, expected = (words.replace("<home>", "/home").replace("<Users>", "/Users") for words in (text, shown))
    assert without_paths(whole) == expected


def test_the_home_of_whoever_runs_it_goes_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/data/people/Alice Smith"))
    assert without_paths("cannot enter /data/people/Alice Smith for now") == "cannot enter ... for now"
    assert without_paths("no /data/people/Alice Smith/x/corpus.txt") == "no .../corpus.txt"
    assert without_paths("/data/people/Alice Smithson/x/a.txt") == ".../a.txt"
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert without_paths("a/b") == "a/b"
