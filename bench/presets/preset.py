"""A preset, or a file given with ``--config``: which cells a study has, and with which settings.

    about: one line
    seeds: [0]
    threads: 1
    time_limit_s: 600
    clock: {rounds: 10, steps: 30, seconds: 5}
    wandb: {project: spanbench}
    tasks:
      enwik8:
        seeds: [0, 1, 2]
        task: {...}
        backbone: {...}
        train: {...}
        trainer: {...}
        methods:
          default: {train.learning_rate: 1.0e-3}
          full_attention+memory=none: {}
          expire_span: {max_span: 96, train.learning_rate: 2.0e-3}

A task may have seeds of its own. Under a method, plain keys are its own settings (and ``impl``); keys that begin with
``train.`` or ``backbone.`` replace the task's for this method. A method expression takes the entry written for it, else
the one for it without such keys, else that of its id, else `default`, which serves methods from outside the tree and so
has no settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from bench.clock.settings import ClockSettings
from bench.settings import Given, build
from bench.spec import join_variant, split_expression
from bench.wandb_export.settings import WandbSettings
from models.errors import SettingsError
from models.nearest import nearest

COMMON = ("backbone", "train", "trainer")
"""Sections that a task's cells share, in the file's words."""
LARGEST_SEED = 2**63 - 1
"""What a signed 64-bit number holds, as tables store seeds."""
PER_METHOD = ("backbone", "train")
"""Those that one method may change for itself."""


@dataclass(frozen=True)
class StudyKeys:
    """The keys of a preset beside its tasks."""

    about: str
    """One line: what the preset is for."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """One cell per seed, for every method of every task that has no seeds of its own."""
    threads: int = 1
    """CPU threads of each cell's process."""
    time_limit_s: float | None = None
    """Seconds after which a cell is ended with status timeout; null for no limit."""
    memory_limit_gb: float | None = None
    """GB (10^9 bytes) that a cell on the CPU may allocate before it ends as oom; null: a share of what is free."""
    judged_by: Literal["test", "validation"] = "test"
    """The split whose scores the report shows: validation where the study serves to choose settings."""

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)
        if self.threads < 1:
            raise SettingsError("threads", f"is {self.threads}", "Give at least 1.")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise SettingsError("time_limit_s", f"is {self.time_limit_s}", "Give seconds, or null for no limit.")
        if self.memory_limit_gb is not None and self.memory_limit_gb <= 0:
            raise SettingsError("memory_limit_gb", f"is {self.memory_limit_gb}", "Give GB, or null for a share.")


@dataclass(frozen=True)
class TaskKeys:
    """The keys of a task's entry that are no section."""

    seeds: list[int] | None = None
    """One cell per seed, for every method, in place of the study's."""


def _check_seeds(seeds: list[int], key: str = "seeds", source: str | None = None) -> None:
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise SettingsError(key, f"are {seeds}", "Give one or more different whole numbers, 0 or more.", source)
    if max(seeds) > LARGEST_SEED:
        raise SettingsError(key, f"are {seeds}", f"Give numbers up to {LARGEST_SEED:,}.", source)


@dataclass(frozen=True)
class TaskEntry:
    """What a preset says of one task."""

    task: dict[str, Given]
    """The task's own settings."""
    common: dict[str, dict[str, Given]]
    """Section of COMMON to settings that all its cells share."""
    methods: dict[str, dict[str, Given]]
    """Method expression, or ``default``, to its settings, in the file's order."""
    seeds: dict[str, Given]
    """Its own ``seeds``, in place of the study's, if it has any."""

    def entry(self, method: str, variant: Mapping[str, str]) -> dict[str, Given]:
        """The settings for a method expression, which the file need not list."""
        own = {key: value for key, value in variant.items() if "." not in key}
        for name in (join_expression(method, variant), join_expression(method, own), method, "default"):
            if name in self.methods:
                return self.methods[name]
        return {}

    def expressions(self) -> list[str]:
        """The method expressions that the file lists."""
        return [name for name in self.methods if name != "default"]


@dataclass(frozen=True)
class Preset:
    """A parsed file. Its settings are still as written; `bench.study` gives them their types."""

    study: dict[str, Given]
    """The keys of StudyKeys."""
    clock: dict[str, Given]
    """The keys of ClockSettings."""
    wandb: dict[str, Given]
    """The keys of WandbSettings."""
    tasks: dict[str, TaskEntry]
    """Task id to its entry, in the file's order."""
    source: str
    """The file, for messages."""


def read(path: Path, source: str) -> Preset:
    """Reads a preset.

    Args:
        path: the YAML file.
        source: what messages call it.

    Raises:
        SettingsError: the file is missing, is not YAML, or has an unknown, missing or repeated key.
    """
    return parse(content_of(path, source, "--config"), source)


def content_of(path: Path, source: str, key: str) -> Any:
    """What a YAML file holds.

    Args:
        path: the file.
        source: what messages call it.
        key: the flag that named it, for messages.

    Raises:
        SettingsError: the file is missing, is not YAML, or has a key twice in one mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_what_misleads(text)
        return yaml.safe_load(text)
    except FileNotFoundError:
        raise SettingsError(key, f"there is no file {source}", "Give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(key, f"{source} cannot be read: {error}", "Give the path of a YAML file.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a value that looks like a date or a number and is none. RecursionError: endless brackets.
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise SettingsError(key, f"{source} is not valid YAML: {problem}", "Correct the file.") from error


def parse(content: Any, source: str) -> Preset:
    """A preset from what its file holds. Raises SettingsError for an unknown or missing key, naming `source`."""
    table = _table(content, "preset", source)
    study = {key: Given(value, source) for key, value in table.items() if key not in ("tasks", "clock", "wandb")}
    known = [*StudyKeys.__dataclass_fields__, "clock", "wandb", "tasks"]
    for key in table:
        if key not in known:
            raise SettingsError(key, "there is no such key", nearest(key, known), source)
    if "about" not in study:
        raise SettingsError("about", "is missing", "Begin the file with a line that says what it is for.", source)
    build(StudyKeys, "", study)
    clock = _values(table.get("clock"), "clock", source)
    build(ClockSettings, "clock", clock)
    wandb = _values(table.get("wandb"), "wandb", source)
    build(WandbSettings, "wandb", wandb)
    tasks = _table(table.get("tasks"), "tasks", source)
    if not tasks:
        raise SettingsError("tasks", "the file names no task", "List at least one under `tasks:`.", source)
    return Preset(
        study, clock, wandb, {name: _task_entry(name, entry, source) for name, entry in tasks.items()}, source
    )


def join_expression(method: str, variant: Mapping[str, str]) -> str:
    """The method expression, its variant in canonical order."""
    return "+".join(part for part in (method, join_variant(variant)) if part)


def _task_entry(task: str, content: Any, source: str) -> TaskEntry:
    place = f"tasks.{task}"
    known = ("seeds", "task", *COMMON, "methods")
    table = _table(content, place, source)
    for key in table:
        if key not in known:
            raise SettingsError(f"{place}.{key}", "there is no such key", nearest(key, known), source)
    sections = {key: _values(table.get(key), f"{place}.{key}", source) for key in ("task", *COMMON)}
    methods: dict[str, dict[str, Given]] = {}
    for expression, entry in _section(table.get("methods"), f"{place}.methods", source).items():
        where = f"{place}.methods.{expression}"
        method, variant = split_expression(expression, where)
        name = join_expression(method, variant)
        if name in methods:
            raise SettingsError(where, "stands there twice, in another order", "Keep one of them.", source)
        methods[name] = {
            key: Given(value, f"{source}, {where}") for key, value in _section(entry, where, source).items()
        }
        for key in methods[name]:
            prefix, dot, _ = key.partition(".")
            if dot and prefix not in PER_METHOD:
                remedy = (
                    f"A method may change {' and '.join(f'{part}.*' for part in PER_METHOD)}, and its own settings."
                )
                raise SettingsError(f"{where}.{key}", "cannot be set for one method", remedy, source)
            if not dot and name == "default":
                remedy = "Only train.* and backbone.* may stand under `default`, which is for methods it does not know."
                raise SettingsError(f"{where}.{key}", "is a method's own setting", remedy, source)
    seeds = {key: Given(table[key], f"{source}, {place}") for key in ("seeds",) if key in table}
    own: TaskKeys = build(TaskKeys, place, seeds)
    if own.seeds is not None:
        _check_seeds(own.seeds, f"{place}.seeds", source)
    return TaskEntry(sections["task"], {key: sections[key] for key in COMMON}, methods, seeds)


def _values(content: Any, place: str, source: str) -> dict[str, Given]:
    """The settings of a section, each with where it was written; none where the section is left out."""
    return {name: Given(value, f"{source}, {place}") for name, value in _section(content, place, source).items()}


def _table(content: Any, key: str, source: str) -> dict[str, Any]:
    """Content that must be a mapping with text for keys."""
    if not isinstance(content, Mapping):
        raise SettingsError(key, f"is {content!r}, not a mapping", "Write keys and values under it.", source)
    for name in content:
        if not isinstance(name, str):
            raise SettingsError(key, f"has the key {name!r}, which is not text", "Put it in quotes.", source)
    return dict(content)


def _section(content: Any, key: str, source: str) -> dict[str, Any]:
    """A mapping that may be left out, or have nothing written under it."""
    return {} if content is None else _table(content, key, source)


def _refuse_what_misleads(text: str) -> None:
    """Raises YAMLError for YAML that would mean something else than it seems to, or never end.

    That is a key that stands twice in one mapping, of which YAML silently keeps the last; a key that is no plain text;
    and an alias within what it stands for.
    """
    seen: set[int] = set()

    def look(node: Any, above: tuple[int, ...]) -> None:
        line = node.start_mark.line + 1
        if id(node) in above:
            raise yaml.YAMLError(f"what begins in line {line} contains itself")
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            return
        seen.add(id(node))
        keys = set()
        for entry in node.value:
            if isinstance(node, yaml.SequenceNode):
                look(entry, (*above, id(node)))
                continue
            key, value = entry
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"the key in line {line} is a list or a mapping, not text")
            if key.value in keys:
                raise yaml.YAMLError(f"the key {key.value} stands twice in one mapping, again in line {line}")
            keys.add(key.value)
            look(value, (*above, id(node)))

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        look(root, ())
