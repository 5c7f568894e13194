"""Turns values as written, in YAML or after ``--set``, into validated frozen dataclasses, through jsonargparse.

A *section* is the dotted prefix of one dataclass's keys: ``train``, ``backbone``, ``trainer``, ``task.<id>`` or
``method.<id>``. Every value carries the place it was written in, so that an error names both.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from bench.spec import Precision, TrainerSettings
from models.errors import SettingsError
from models.nearest import nearest


class Given(NamedTuple):
    """A value as written, and where: a file and the place in it, ``--set`` or ``--methods``."""

    value: Any
    source: str


@dataclasses.dataclass(frozen=True)
class TrainerKeys(TrainerSettings):
    """The keys under ``trainer.``: TrainerSettings, and the precision, which stands beside it in a cell's spec."""

    precision: Precision = "32-true"
    """Number format of the computation, as Lightning names it."""


def build(cls: type[Any], section: str, values: Mapping[str, Given]) -> Any:
    """Makes a settings dataclass from what was written.

    Args:
        cls: a dataclass whose fields are plain values: numbers, text, booleans, literals, or lists of these.
        section: the dotted prefix of its keys, for messages.
        values: field name to value; fields that are not named keep their defaults.

    Raises:
        SettingsError: a key is unknown or missing, a value has the wrong type, or the dataclass refuses it.
    """
    known = {item.name: item for item in dataclasses.fields(cls) if item.init}
    for key, given in values.items():
        if key not in known:
            full = dotted(section, key)
            remedy = nearest(full, [dotted(section, name) for name in known])
            raise SettingsError(full, "there is no such key", remedy, given.source)
    parsed = _typed(cls, section, values)
    for name, item in known.items():
        if name not in parsed and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise SettingsError(dotted(section, name), "is not given and has no default", "Set it.")
    with located(section, {dotted(section, key): given for key, given in values.items()}):
        return cls(**parsed)


@contextmanager
def located(section: str, values: Mapping[str, Given], about: str = "") -> Iterator[None]:
    """Within it, a SettingsError about one of `values` learns where that value was written.

    Any other ValueError, as a dataclass's ``__post_init__`` may raise, becomes a SettingsError about the section.

    Args:
        section: the dotted prefix to name where the error does not name a key itself.
        values: full dotted key to value.
        about: added to the problem, such as which cell it concerns.
    """
    try:
        yield
    except SettingsError as error:
        given = values.get(error.key)
        source = error.source or (given.source if given else None)
        raise SettingsError(error.key, error.problem + about, error.remedy, source) from error
    except ValueError as error:
        problem = str(error).rstrip(".") + about
        raise SettingsError(section, problem, "Correct the settings under this key.") from error


def as_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as the plain JSON dictionary that a cell's spec holds."""
    return cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(settings), allow_nan=False)))


class Key(NamedTuple):
    """One key that can be set, for help."""

    key: str
    type: str
    default: Any
    help: str


def keys(cls: type[Any], section: str) -> list[Key]:
    """Every key of a settings dataclass, with its field docstring."""
    hints, documented = typing.get_type_hints(cls), _documented(cls)
    found = []
    for item in dataclasses.fields(cls):
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        shown = None if default is dataclasses.MISSING else default
        found.append(Key(dotted(section, item.name), _name(hints[item.name]), shown, documented.get(item.name, "")))
    return found


def _documented(cls: type[Any]) -> dict[str, str]:
    """Field docstrings by field name, the parents' included."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if dataclasses.is_dataclass(parent):
            for item in docstring_parser.parse_from_object(parent).params:
                found[item.arg_name] = (item.description or "").strip()
    return found


def dotted(section: str, key: str) -> str:
    """The full key of a field."""
    return f"{section}.{key}" if section else key


def _typed(cls: type[Any], section: str, values: Mapping[str, Given]) -> dict[str, Any]:
    """Values in their fields' types: parsed all at once, as each call takes milliseconds; singly if one is wrong."""
    hints = typing.get_type_hints(cls)
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    for key in values:
        parser.add_argument(f"--{key}", type=hints[key])

    def parse(keys: Iterable[str]) -> dict[str, Any]:
        return dict(parser.parse_object({key: values[key].value for key in keys}, defaults=False).as_dict())

    try:
        parsed = parse(values)
    except ArgumentError:
        parsed = {}
    for key, given in values.items():
        full, wrong = dotted(section, key), f"{given.value!r} is not {_name(hints[key])}"
        try:
            value = parsed[key] if key in parsed else parse([key])[key]
            # jsonargparse lets None pass for every type, because None is what it calls an argument that is not given.
            if value is None and not _optional(hints[key]):
                raise ArgumentError(None, "null")
        except ArgumentError:
            raise SettingsError(full, wrong, "Give it a value of that type.", given.source) from None
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise SettingsError(full, f"{given.value!r} is not finite", "Give a finite number.", given.source) from None
        parsed[key] = value
    return parsed


def _optional(hint: Any) -> bool:
    return hint is Any or hint is type(None) or any(_optional(part) for part in _alternatives(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()


def _name(hint: Any) -> str:
    """A type in words, with Python's name for it where that helps."""
    words = {int: "a whole number (int)", float: "a number (float)", bool: "true or false (bool)", str: "text (str)"}
    if hint is type(None):
        return "null"
    if hint in words:
        return words[hint]
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(str(value) for value in typing.get_args(hint))}"
    alternatives = _alternatives(hint)
    if alternatives:
        return " or ".join(_name(part) for part in alternatives)
    return str(hint)
