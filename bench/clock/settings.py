"""How long the clock measures (`clock.*`)."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import SettingsError


@dataclass(frozen=True)
class ClockSettings:
    """How the clock phase measures. Methods take turns: one turn each is a round."""

    enabled: bool = True
    """Measure time and memory after a study's cells."""
    rounds: int = 10
    """Turns of every method; ratios are paired by round."""
    steps: int = 30
    """Timed training steps of every method, at least."""
    seconds: float = 5.0
    """Timed seconds of every method, at least."""
    warmup_steps: int = 60
    """Steps after which timing begins at the latest; it begins earlier where step times have become steady."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "warmup_steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"clock.{name}", f"is {getattr(self, name)}", "Give at least 1.")
        if not 0 <= self.seconds < float("inf"):
            raise SettingsError("clock.seconds", f"is {self.seconds}", "Give 0 or more seconds.")
