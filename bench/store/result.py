"""A cell's result: how it ended, and its rows, each with all that is needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bench.store.damaged import DamagedFile
from bench.store.statuses import RESULTS, Status


@dataclass(frozen=True)
class Row:
    """One measured value.

    Raises ValueError where a number is not finite: what could not be measured is None.
    """

    metric: str
    value: float | None
    """None where it is missing; never 0 instead."""
    unit: str
    split: str
    """train, validation, test; or empty where the value belongs to none."""
    n: int | None = None
    """How many positions, episodes or repetitions the value rests on."""
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    higher_is_better: bool | None = None
    """None where neither end is better."""
    context: dict[str, Any] = field(default_factory=dict)
    """What else the value depends on, such as block_length, memory_carried, evaluation_batch."""

    def __post_init__(self) -> None:
        for name in ("value", "p20", "p50", "p80"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} of row {self.metric!r} is {number}; a value that is missing is None")


@dataclass(frozen=True)
class Result:
    """How one cell ended. A cell without a result has not ended."""

    cell: str
    status: Status
    reason: str = ""
    """Why it is not ok, in one line."""
    traceback: str = ""
    rows: list[Row] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    """What `provenance.collect` and `fingerprint` found, on the machine that ran it."""
    started: str = ""
    """When the attempt began, ISO 8601 in UTC; empty to let the process fill it in."""
    seconds: float = 0.0
    """Wall time in seconds over all processes of the attempt; 0 to let the process fill it in."""
    attempt: int = 0
    """1 for the first; 0 to let the process fill it in."""
    died: bool = False
    """Whether others speak for a process that ended without a result: killed, crashed, out of memory. Nothing of the
    cell's own code is known to have failed, so the cell goes on from its last checkpoint when it is run again."""

    def __post_init__(self) -> None:
        if self.status not in RESULTS:
            raise ValueError(f"{self.status!r} cannot stand in a result: it is derived from the cell's files")
        object.__setattr__(self, "status", Status(self.status))
        if self.status is Status.OK and not self.rows:
            raise ValueError("it is ok and has no rows: a cell that measured nothing has not ended well")
        object.__setattr__(self, "reason", " ".join(self.reason.split()))

    def to_json(self) -> dict[str, Any]:
        """The result as JSON data."""
        return asdict(self) | {"status": self.status.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], path: Path) -> Result:
        """Reads what `to_json` made; `path` is the file it came from. Raises DamagedFile."""
        values = dict(data)
        try:
            rows = values.pop("rows")
            if not isinstance(rows, list):
                raise TypeError("rows is not a list")
            result = cls(**values, rows=[Row(**_checked(Row, row)) for row in rows])
            _checked(cls, values)
            for name, kind in _ORIGIN.items():
                _check(f"provenance.{name}", result.provenance.get(name), kind)
        except KeyError as error:
            raise DamagedFile(path, f"it lacks {error}") from error
        except (TypeError, ValueError) as error:
            raise DamagedFile(path, str(error)) from error
        return result

    def main_row(self, metric: str | None) -> Row | None:
        """The row of a task's metric: on the test split, else on validation; None where it was not measured."""
        found = {row.split: row for row in self.rows if row.metric == metric}
        return found.get("test") or found.get("validation")


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "Status": (str,),
    "float": (int, float),
    "int": (int,),
    "float | None": (int, float, type(None)),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
    "dict[str, Any]": (dict,),
}


_ORIGIN = {
    **dict.fromkeys(("commit", "python", "torch", "lightning", "cuda", "driver", "device", "cpu"), "str | None"),
    **dict.fromkeys(("cores", "devices", "device_memory", "memory", "threads"), "int | None"),
    "fingerprint": "str | None",
    "dirty": "bool | None",
}
"""What the provenance may hold, as far as tables are made of it."""


def _checked(cls: type[Row] | type[Result], values: Any) -> dict[str, Any]:
    """`values` as they are. Raises TypeError where one is not of the type that its field declares."""
    if not isinstance(values, dict):
        raise TypeError(f"a {cls.__name__.lower()} is not an object")
    for item in fields(cls):
        if item.name in values:
            _check(item.name, values[item.name], str(item.type))
    return values


def _check(name: str, value: Any, kind: str) -> None:
    kinds = _KINDS.get(kind)
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        raise TypeError(f"{name} is {value!r}, which is not {kind}")
