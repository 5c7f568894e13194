"""The two errors that a method or a task raises on purpose, each with what a user needs to mend it."""

from __future__ import annotations


class SettingsError(ValueError):
    """A setting that cannot work, found before anything is trained. Commands turn it into exit code 2.

    Args:
        key: the full dotted key, such as ``method.compressive.rate``; or a flag, such as ``--methods``.
        problem: what is wrong with its value.
        remedy: what to write instead.
        source: the file the value came from, if it came from one.
    """

    def __init__(self, key: str, problem: str, remedy: str, source: str | None = None) -> None:
        self.key, self.problem, self.remedy, self.source = key, problem, remedy, source
        where = f" (in {source})" if source else ""
        super().__init__(f"{key}{where}: {problem}. {remedy}")


class Unsupported(RuntimeError):
    """Task, method and impl do not go together. The cell's status is `unsupported`, with this reason."""
