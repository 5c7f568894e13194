"""Whether and where a study's cells become W&B runs (`wandb.*`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.errors import SettingsError

_FORBIDDEN = "/\\#?%:"


@dataclass(frozen=True)
class WandbSettings:
    """What becomes of a study's cells in W&B. Nothing of it changes what a cell computes."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """Write finished cells as offline runs, send cells to a server while they train, or neither."""
    project: str = "spanbench"
    """The W&B project of the runs."""
    entity: str | None = None
    """The W&B user or team of the project; null for the account's default."""
    time_limit_s: float = 300.0
    """Seconds after which writing or sending runs is given up."""

    def __post_init__(self) -> None:
        if not self.project or len(self.project) > 128 or set(self.project) & set(_FORBIDDEN):
            remedy = f"Give 1 to 128 characters, none of {' '.join(_FORBIDDEN)}."
            raise SettingsError("wandb.project", f"is {self.project!r}", remedy)
        if not 0 < self.time_limit_s < float("inf"):
            raise SettingsError("wandb.time_limit_s", f"is {self.time_limit_s}", "Give seconds, more than 0.")
