"""The space of a sweep: what is searched, over which base, and how trials are chosen and ended.

    about: one line
    preset: quick                        # or `settings:` with a preset's content
    task: enwik8
    method: expire_span                  # a method expression
    seed: 0                              # of every trial's cell
    set: {train.steps: 300}              # fixed settings over the base
    parameters:
      train.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
      method.expire_span.max_span: {low: 32, high: 256, step: 32}
      train.optimiser: {choices: [adam, adamw]}
    objective: {metric: bpb, split: validation}
    sampler: {kind: tpe, seed: 0, startup_trials: 10}
    pruner: {kind: median, warmup_steps: 100, startup_trials: 5}

The objective is the task's metric on validation, best over the training; test is left for what the sweep has chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench import presets
from bench.presets import preset
from bench.presets.preset import Preset
from bench.settings import Given, build
from models.errors import SettingsError
from models.nearest import nearest

KEYS = ("about", "preset", "settings", "task", "method", "seed", "set", "parameters", "objective", "sampler", "pruner")
Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched: from `low` to `high`, or one of `choices`."""

    low: int | float | None = None
    """The smallest value; whole numbers on both ends make a search over whole numbers."""
    high: int | float | None = None
    """The largest value, itself possible."""
    log: bool = False
    """Whether equal ratios are equally likely, instead of equal differences."""
    step: int | float | None = None
    """The distance of neighbouring values; null for 1, or for any number between."""
    choices: tuple[Scalar, ...] = ()
    """The values, in place of the rest."""

    def ends(self) -> list[Scalar]:
        """The values at which a space can be checked: both ends, or every choice."""
        return list(self.choices) or [self.low, self.high]


@dataclass(frozen=True)
class ObjectiveSettings:
    """What a trial is judged by."""

    metric: str = ""
    """The task's metric; may be left out."""
    split: Literal["validation"] = "validation"
    """Always validation: a setting chosen by its test score has no honest test score any more."""


@dataclass(frozen=True)
class SamplerSettings:
    """How a trial's settings are chosen."""

    kind: Literal["tpe", "random"] = "tpe"
    """Optuna's tree-structured Parzen estimator, or chance."""
    seed: int = 0
    """The seed of the choice; a trial's choice depends on it, the trial's number, and the trials before."""
    startup_trials: int = 10
    """Trials that are chosen by chance before the estimator has something to go by."""

    def __post_init__(self) -> None:
        for name in ("seed", "startup_trials"):
            if getattr(self, name) < 0:
                raise SettingsError(f"sampler.{name}", f"is {getattr(self, name)}", "Give 0 or more.")


@dataclass(frozen=True)
class PrunerSettings:
    """Which trials are ended early."""

    kind: Literal["median", "successive_halving", "none"] = "median"
    """median: those worse than half of the completed ones at the same step; successive_halving: all but the best
    1/reduction_factor of all at warmup_steps, then at reduction_factor times as many, and so on."""
    warmup_steps: int = 1
    """Training steps before which none is ended."""
    startup_trials: int = 5
    """Trials that must have completed before one is ended (median)."""
    reduction_factor: int = 2
    """See kind (successive_halving)."""

    def __post_init__(self) -> None:
        for name, least in (("warmup_steps", 1), ("startup_trials", 1), ("reduction_factor", 2)):
            if getattr(self, name) < least:
                raise SettingsError(f"pruner.{name}", f"is {getattr(self, name)}", f"Give {least} or more.")


@dataclass(frozen=True)
class Space:
    """A parsed file. Its settings are still as written; `sweeps.trial_cells` gives them their types."""

    about: str
    base: Preset
    task: str
    method: str
    """A method expression."""
    parameters: dict[str, Parameter]
    """Full dotted key, as after ``--set``, to what is searched."""
    seed: int
    fixed: dict[str, Scalar]
    """Full dotted key to value."""
    objective: ObjectiveSettings
    sampler: SamplerSettings
    pruner: PrunerSettings
    source: str = field(default="")
    """The file, for messages."""


def read(path: Path) -> Space:
    """Reads a space file.

    Raises:
        SettingsError: the file is missing, is not YAML, or has an unknown, missing or impossible key.
    """
    source = path.name
    table = _table(preset.content_of(path, str(path), "SPACE.yaml"), "the file", source)
    for key in table:
        if key not in KEYS:
            raise SettingsError(key, "there is no such key", nearest(key, KEYS), source)
    for key in ("about", "task", "method"):
        if not isinstance(table.get(key), str):
            raise SettingsError(key, f"is {table.get(key)!r}, not text", f"Write `{key}: ...`.", source)
    base = _base(table, source)
    seed = table.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SettingsError("seed", f"is {seed!r}", "Give a whole number, 0 or more.", source)
    parameters = {
        key: _parameter(key, content, source)
        for key, content in _table(table.get("parameters"), "parameters", source).items()
    }
    if not parameters:
        raise SettingsError("parameters", "names no setting to search", "List at least one.", source)
    fixed = _table(table.get("set", {}), "set", source)
    for key, value in fixed.items():
        if not isinstance(value, Scalar):
            raise SettingsError(f"set.{key}", f"is {value!r}", "Give one value, as after --set.", source)
        if key in parameters:
            raise SettingsError(key, "stands under set and under parameters", "Keep one of them.", source)
    return Space(
        about=table["about"],
        base=base,
        task=table["task"],
        method=table["method"],
        parameters=parameters,
        seed=seed,
        fixed=fixed,
        objective=_section(ObjectiveSettings, "objective", table, source),
        sampler=_section(SamplerSettings, "sampler", table, source),
        pruner=_section(PrunerSettings, "pruner", table, source),
        source=source,
    )


def parameters_json(space: Space) -> dict[str, dict[str, Any]]:
    """What is searched, as JSON data."""
    return {key: {**asdict(found), "choices": list(found.choices)} for key, found in space.parameters.items()}


def _base(table: Mapping[str, Any], source: str) -> Preset:
    """The settings that the space changes: a preset's, or those in the file."""
    if ("preset" in table) == ("settings" in table):
        problem = "stand both in the file" if "preset" in table else "are both missing"
        raise SettingsError("preset, settings", problem, "Give one: a preset's name, or a preset's content.", source)
    if "preset" in table:
        name = str(table["preset"])
        if name not in presets.names():
            raise SettingsError("preset", f"there is no preset {name!r}", nearest(name, presets.names()), source)
        return preset.read(presets.path(name), f"bench/presets/{name}.yaml")
    return preset.parse(
        {"about": table["about"], **_table(table["settings"], "settings", source)}, f"{source}, settings"
    )


def _parameter(key: str, content: Any, source: str) -> Parameter:
    place, table = f"parameters.{key}", _table(content, f"parameters.{key}", source)
    known = list(Parameter.__dataclass_fields__)

    def refuse(name: str, problem: str, remedy: str) -> SettingsError:
        return SettingsError(f"{place}.{name}" if name else place, problem, remedy, source)

    for name in table:
        if name not in known:
            raise refuse(name, "there is no such key", nearest(name, known))
    if "choices" in table:
        choices = table["choices"]
        if len(table) > 1:
            raise refuse("choices", f"stands beside {', '.join(sorted({*table} - {'choices'}))}", "Keep one of them.")
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(each, Scalar) for each in choices):
            raise refuse("choices", f"is {choices!r}", "List two values or more.")
        if len({str(each) for each in choices}) < len(choices):
            raise refuse("choices", "has a value twice", "Keep one of them.")
        return Parameter(choices=tuple(choices))
    for name in ("low", "high", *(["step"] if table.get("step") is not None else [])):
        value = table.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            hint = "YAML takes 1e-4 for text: write 1.0e-4." if isinstance(value, str) else "Give a number."
            raise refuse(name, f"is {value!r}, not a number", hint)
    if not isinstance(table.get("log", False), bool):
        raise refuse("log", f"is {table['log']!r}", "Give true or false.")
    found = Parameter(**table)
    assert found.low is not None
    assert found.high is not None
    if found.low >= found.high:
        raise refuse("", f"goes from {found.low} to {found.high}", "Make low the smaller one.")
    if found.log and (found.low <= 0 or found.step is not None):
        problem = f"begins at {found.low}" if found.low <= 0 else "has a step"
        raise refuse("log", f"is true, and the range {problem}", "A logarithmic range is positive and has no step.")
    whole = isinstance(found.low, int) and isinstance(found.high, int)
    if found.step is not None and (found.step <= 0 or (whole and not isinstance(found.step, int))):
        raise refuse("step", f"is {found.step}", "Give a positive number, whole if low and high are.")
    if found.step is not None and abs((found.high - found.low) / found.step % 1) > 1e-9:
        steps = math.floor((found.high - found.low) / found.step)
        raise refuse(
            "step", f"does not lead to {found.high}", f"The last value would be {found.low + steps * found.step:.10g}."
        )
    return found


def _section(cls: type[Any], name: str, table: Mapping[str, Any], source: str) -> Any:
    content = _table(table.get(name, {}), name, source)
    return build(cls, name, {key: Given(value, source) for key, value in content.items()})


def _table(content: Any, key: str, source: str) -> dict[str, Any]:
    """Content that must be a mapping with text for keys."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise SettingsError(key, f"is {content!r}, not a mapping", "Write keys and values under it.", source)
    return dict(content)
