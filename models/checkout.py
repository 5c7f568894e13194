"""Where the project lies: the folder that holds `models/`, `tasks/`, `bench/` and the others."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
