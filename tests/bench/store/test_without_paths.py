"""Stored texts name no folder of the machine they were made on."""

from __future__ import annotations

from bench.store.provenance import without_paths
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
