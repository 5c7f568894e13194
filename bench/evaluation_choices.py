"""The choices that an evaluation offers; apart from it, so that ``--help`` needs no PyTorch."""

from __future__ import annotations

SPLITS = ("validation", "test")

# What is done with predicted spans.
EDITS = {
    "learned": "as they are predicted",
    "mean": "replaced by their layer's mean",
    "shuffled": "shuffled among the tokens of a block",
}
