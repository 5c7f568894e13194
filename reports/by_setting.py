"""Quality by setting: a table's score against a number that its lines vary, such as a learning rate.

Lines that differ in nothing but that number are one line here, of one method with all else alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.groups import Group, named
from reports.parts import Bullets, Heading, Part, Table
from reports.quality import QualityTable, shown
from reports.statistics import Mean

_FEWEST = 3
"""Values from which on a setting is taken to be varied, and not to tell two things apart."""


@dataclass(frozen=True)
class Varied:
    """A table's score by one setting.

    Args:
        key: as a method expression writes it: `train.learning_rate`, or a method's own key.
        lines: by name, one line's groups by the setting's value, from small to large.
        scores: by name and value, of the table's split; only where something was measured.
    """

    key: str
    lines: Mapping[str, Mapping[float, Group]]
    scores: Mapping[str, Mapping[float, Mean]]

    @property
    def field(self) -> str:
        """The setting's name without its section."""
        return self.key.rpartition(".")[2]

    def values(self) -> list[float]:
        """The values that any line has."""
        return sorted({value for line in self.lines.values() for value in line})


def by_setting(quality: QualityTable) -> list[Varied]:
    """One for each setting of which some line of the table has three values or more."""
    groups = sorted((line.group for line in quality.lines), key=lambda group: group.position)
    measured = {line.group.label: line.score for line in quality.lines if line.score is not None}
    found = []
    for key in dict.fromkeys(part.partition("=")[0] for group in groups for part in group.variant):
        lines = _lines(groups, key)
        if lines:
            scores = {
                name: {value: measured[group.label] for value, group in line.items() if group.label in measured}
                for name, line in lines.items()
            }
            found.append(Varied(key, lines, scores))
    return found


def _lines(groups: Sequence[Group], key: str) -> dict[str, dict[float, Group]]:
    """By name, the groups that differ in nothing but a key; of lines with enough values."""
    alike: dict[str, list[tuple[float, Group]]] = {}
    for group in groups:
        value = _place(group.spec, key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            alike.setdefault(_without(group, key), []).append((float(value), group))
    found: dict[str, dict[float, Group]] = {}
    for members in alike.values():
        line = dict(sorted(members, key=lambda member: member[0]))
        if len(line) >= _FEWEST and len(line) == len(members):
            first = members[0][1]
            rest = [part for part in first.variant if not part.startswith(f"{key}=")]
            found[named(first.title, rest)] = line
    return found


def _place(spec: Mapping[str, object], key: str) -> object:
    """The value of a key as a method expression writes it."""
    section, dot, field = key.rpartition(".")
    settings = spec.get(section if dot else "method_settings")
    return settings.get(field) if isinstance(settings, Mapping) else None


def _without(group: Group, key: str) -> str:
    """Everything that a group's cells compute but for one key."""
    section, dot, field = key.rpartition(".")
    where = section if dot else "method_settings"
    rest = {name: value for name, value in group.spec.items() if name not in ("variant", where)}
    rest[where] = {name: value for name, value in group.spec[where].items() if name != field}
    return json.dumps(rest, sort_keys=True)


def best(quality: QualityTable, scores: Mapping[float, Mean]) -> float | None:
    """The value with the best score; of equals the smallest."""
    if not scores:
        return None
    score = (max if quality.higher_is_better else min)(mean.value for mean in scores.values())
    return min(value for value, mean in scores.items() if mean.value == score)


def by_setting_parts(quality: QualityTable, varied: Varied) -> list[Part]:
    """The table as it is shown, and how to read it."""
    values = varied.values()
    lines = []
    for name, scores in varied.scores.items():
        chosen = best(quality, scores)
        shown_scores = (shown(scores.get(value), quality.unit) for value in values)
        lines.append((name, *shown_scores, "-" if chosen is None else f"{chosen:g}"))
    arrow = "↑" if quality.higher_is_better else "↓"
    corner = f"{quality.split} {quality.metric} ({quality.unit}) {arrow} by {varied.key}"
    return [
        Heading(3, f"{quality.heading}: {quality.metric} by {varied.field}"),
        Table((corner, *(f"{value:g}" for value in values), "best at"), tuple(lines)),
        Bullets(("Best: before rounding; of equals the smallest value.",)),
    ]
