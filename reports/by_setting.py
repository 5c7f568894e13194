"""Quality by setting: a table's score against a number that its lines vary, such as a learning rate.

Lines that differ in nothing but that number are one line here, of one method with all else alike.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports.groups import Group, named
from reports.parts import Bullets, Heading, Part, Table
from reports.quality import Line, QualityTable, shown

_FEWEST = 3
"""Values from which on a setting is taken to be varied, and not to tell two things apart."""


@dataclass(frozen=True)
class VariedLine:
    """One line of a setting that is varied.

    Args:
        name: title, variant and window but for the setting, and what tells it from another line of that name.
        points: the table's lines by the setting's value, from small to large.
    """

    name: str
    points: Mapping[float, Line]

    @property
    def first(self) -> Group:
        """The group of the smallest value."""
        return next(iter(self.points.values())).group

    def best(self, higher_is_better: bool) -> float | None:
        """The value with the best score; of equals the smallest."""
        scores = {value: line.score.value for value, line in self.points.items() if line.score is not None}
        if not scores:
            return None
        score = (max if higher_is_better else min)(scores.values())
        return min(value for value, its in scores.items() if its == score)


@dataclass(frozen=True)
class Varied:
    """A table's score by one setting.

    Args:
        key: as a method expression writes it: `train.learning_rate`, or a method's own key.
        lines: those with enough values.
    """

    key: str
    lines: Sequence[VariedLine]

    @property
    def field(self) -> str:
        """The setting's name without its section."""
        return self.key.rpartition(".")[2]

    def values(self) -> list[float]:
        """The values that any line has."""
        return sorted({value for line in self.lines for value in line.points})


def by_setting(quality: QualityTable) -> list[Varied]:
    """One for each setting of which some line of the table has three values or more."""
    lines = sorted(quality.lines, key=lambda line: line.group.position)
    keys = dict.fromkeys(part.partition("=")[0] for line in lines for part in line.group.variant)
    found = [Varied(key, _lines(lines, key)) for key in keys]
    return [varied for varied in found if varied.lines]


def _lines(lines: Sequence[Line], key: str) -> list[VariedLine]:
    """What differs in nothing but a key, in one line each. Of two with one value, the one with more seeds counts."""
    alike: dict[str, dict[float, Line]] = {}
    for line in lines:
        value = _settings(line.group, key).get(_field(key))
        if isinstance(value, int | float) and not isinstance(value, bool):
            points = alike.setdefault(_without(line.group, key), {})
            other = points.get(float(value))
            if other is None or _seeds(line) > _seeds(other):
                points[float(value)] = line
    found = [
        VariedLine(_name(next(iter(points.values())).group, key), dict(sorted(points.items())))
        for points in alike.values()
        if len(points) >= _FEWEST
    ]
    count = Counter(each.name for each in found)
    told: Counter[str] = Counter()
    for place, each in enumerate(found):
        if count[each.name] > 1:
            told[each.name] += 1
            found[place] = replace(each, name=f"{each.name} [{told[each.name]}: {each.first.label}]")
    return found


def _seeds(line: Line) -> int:
    return 0 if line.score is None else line.score.n


def _name(group: Group, key: str) -> str:
    """What a line is called whose groups differ in a key."""
    parts = [part for part in (*group.variant, group.window) if part and not part.startswith(f"{key}=")]
    return named(group.title, parts)


def _place(key: str) -> str:
    """Where in a spec a key stands, as a method expression writes it."""
    return key.rpartition(".")[0] or "method_settings"


def _field(key: str) -> str:
    return key.rpartition(".")[2]


def _settings(group: Group, key: str) -> Mapping[str, object]:
    """The settings among which a key stands."""
    found = group.spec.get(_place(key))
    return found if isinstance(found, Mapping) else {}


def _without(group: Group, key: str) -> str:
    """Everything that a group's cells compute but for one key."""
    rest = {name: value for name, value in group.spec.items() if name not in ("variant", _place(key))}
    rest[_place(key)] = {name: value for name, value in _settings(group, key).items() if name != _field(key)}
    return json.dumps(rest, sort_keys=True)


def number(value: float) -> str:
    """A setting's value as it is shown."""
    return f"{value:.10g}"


def by_setting_parts(quality: QualityTable, varied: Varied) -> list[Part]:
    """The table as it is shown, and how to read it."""
    values, chooses = varied.values(), quality.split == "validation"
    lines = []
    for line in varied.lines:
        stale = " (stale)" if any(point.stale for point in line.points.values()) else ""
        scores = [shown(line.points[value].score if value in line.points else None, quality.unit) for value in values]
        best = line.best(quality.higher_is_better)
        choice = ["-" if best is None else number(best)] if chooses else []
        lines.append((f"{line.name}{stale}", *scores, *choice))
    arrow = "↑" if quality.higher_is_better else "↓"
    corner = f"{quality.split} {quality.metric} ({quality.unit}) {arrow} by {varied.key}"
    said = ["Figures along training or distance are left out: they would have a line for each value."]
    if chooses:
        said.insert(0, "Best: by validation, before rounding; of equals the smallest value.")
    return [
        Heading(3, f"{quality.heading}: {quality.metric} by {varied.field}"),
        Table((corner, *map(number, values), *(["best at"] if chooses else [])), tuple(lines)),
        Bullets(tuple(said)),
    ]
