"""What one cell is: everything needed to run it, as plain data, and the id made from it.

Standard library only, so that a cell's process, the store and the reports read specs without PyTorch or jsonargparse.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from bench.store import places
from models.errors import SettingsError

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
Strategy = Literal["auto", "ddp"]

_ALLOWED: dict[str, tuple[str | bool, ...]] = {
    "accelerator": get_args(Accelerator),
    "strategy": get_args(Strategy),
    "enable_progress_bar": (True, False),
    "deterministic": (True, False),
}

# A cell's id is a folder's name: what stands in it must be valid on every file system.
_NAME = re.compile(r"[A-Za-z0-9_.=+-]+")


@dataclass(frozen=True)
class TrainerSettings:
    """Where a cell runs, in the words of Lightning's Trainer (``trainer.*``). Precision is the spec's own."""

    accelerator: Accelerator = "auto"
    """What to run on; gpu is CUDA or Apple's, auto the best that the machine has."""
    devices: int | Literal["auto"] = 1
    """Devices per node that share one training run, or auto for all of them."""
    num_nodes: int = 1
    """Machines that share one training run."""
    strategy: Strategy = "auto"
    """How they share it."""
    enable_progress_bar: bool = False
    """Show Lightning's own progress bar in the cell's log."""
    deterministic: bool = False
    """Ask PyTorch for deterministic kernels; slower on CUDA."""

    def __post_init__(self) -> None:
        # A cell's spec is JSON, which nothing has checked for types.
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if value not in allowed or type(value) is not type(allowed[0]):
                words = ", ".join(str(entry).lower() for entry in allowed)
                raise SettingsError(f"trainer.{name}", f"is {value!r}, not one of {words}", "Choose one of these.")
        for name in ("devices", "num_nodes"):
            if getattr(self, name) != 1:
                raise SettingsError(
                    f"trainer.{name}",
                    f"is {getattr(self, name)}, and this version trains a cell on one device",
                    "Leave it at 1; several cells run side by side with --jobs.",
                )


def split_expression(expression: str, key: str = "--methods") -> tuple[str, dict[str, str]]:
    """Takes a method expression apart: ``full_attention+memory=none`` is ``("full_attention", {"memory": "none"})``.

    Args:
        expression: ``id`` or ``id+key=value[+key=value]``.
        key: where it was written, for messages.

    Returns:
        the method's id, and the variant's settings as written, sorted by key.
    """
    name, *assignments = expression.split("+")
    settings: dict[str, str] = {}
    for assignment in assignments:
        setting, equals, value = assignment.partition("=")
        if not (setting and equals and value):
            raise SettingsError(
                key, f"{assignment!r} in {expression!r} is not key=value", "Write id+key=value, without + in a value."
            )
        if setting in settings:
            raise SettingsError(key, f"{expression!r} sets {setting} twice", "Keep one of them.")
        settings[setting] = value
    for part in (name, *assignments):
        if not _NAME.fullmatch(part):
            raise SettingsError(
                key,
                f"{part!r} in {expression!r} cannot stand in a folder's name",
                "Use letters, digits and _ . - in a variant; put other values under the method's settings.",
            )
    return name, dict(sorted(settings.items()))


def join_variant(settings: Mapping[str, str]) -> str:
    """The variant as it stands in ids and titles: ``memory=none``; empty where there are no settings."""
    return "+".join(f"{key}={value}" for key, value in sorted(settings.items()))


@dataclass(frozen=True)
class CellSpec:
    """One (task, method, settings, seed, precision, impl), complete: nothing is looked up when it runs.

    The settings are plain JSON dictionaries of every field of their dataclasses, defaults included. ``preset``,
    ``threads`` and ``time_limit_s`` say how a cell is run, not what it computes, and are not part of its id; nor is the
    path of a plugin or of a text of the user's, whose content is. Such paths are absolute while a study is planned and
    run, and have lost their folders in a spec that was stored (`bench.store.places`); `located` finds them again.
    """

    task: str
    """Id of the task."""
    task_label: str
    """The task's name with its data, such as ``enwik8-4M``: what results are shown under."""
    task_version: int
    """The task card's version."""
    task_settings: dict[str, Any]
    """Fields of the task's Settings."""
    method: str
    """Id of the method."""
    variant: str
    """What follows the id in the method expression, ``memory=none``; empty if nothing."""
    method_settings: dict[str, Any]
    """Fields of the method's Settings."""
    impl: str
    """How the method is computed; never ``auto``."""
    backbone: dict[str, Any]
    """Fields of BackboneSettings."""
    train: dict[str, Any]
    """Fields of TrainSettings."""
    trainer: dict[str, Any]
    """Fields of TrainerSettings."""
    precision: str
    """One of PRECISIONS, as Lightning names them."""
    seed: int
    """The seed of data, initialisation and noise, 0 or more."""
    task_data: dict[str, str] = field(default_factory=dict)
    """The sha256 of each file that a task setting names, by the setting: ``{"path": "9f9c..."}``."""
    plugins: list[dict[str, str]] = field(default_factory=list)
    """Modules from outside the tree: kind (method or task), id, path and sha256."""
    preset: str = ""
    """The preset the cell came from; empty if none."""
    threads: int = 1
    """CPU threads of the cell's process."""
    time_limit_s: float | None = None
    """Seconds after which the cell is ended with status timeout; None for no limit."""

    @property
    def expression(self) -> str:
        """The method expression: the method's id, and its variant if it has one."""
        return f"{self.method}+{self.variant}" if self.variant else self.method

    @property
    def id(self) -> str:
        """The cell's readable id and folder name: ``enwik8-4M--expire_span--s0--3f9a2c1b``."""
        return f"{self.task_label}--{self.expression}--s{self.seed}--{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that decides what the cell computes."""
        content = self.to_json()
        for key in ("preset", "threads", "time_limit_s"):
            del content[key]
        if self.task_data:
            own = {key: value for key, value in content["task_settings"].items() if key not in self.task_data}
            content["task_settings"] = own
        else:
            # As if there were no such key: cells that read no file of the user's are older than it.
            del content["task_data"]
        content["plugins"] = sorted([plugin["kind"], plugin["id"], plugin["sha256"]] for plugin in self.plugins)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON data that shares nothing with it. Raises ValueError where a setting is not finite."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return cast(dict[str, Any], json.loads(json.dumps(content, allow_nan=False)))

    def located(self, study_dir: Path) -> CellSpec:
        """The spec with the paths of the user's files as they are on this machine, as far as they are known.

        Args:
            study_dir: the study that the spec is stored in.
        """
        return CellSpec.from_json(places.located(self.to_json(), study_dir))

    @classmethod
    def from_json(cls, data: Any, source: Path | str | None = None) -> CellSpec:
        """Reads what `to_json` wrote.

        Args:
            data: the parsed JSON. A ``cell`` key, which a manifest adds, is checked against the id.
            source: the file it came from, for messages.

        Raises:
            SettingsError: a key is missing, unknown or of another type, or the id is not the one recorded.
        """
        where = None if source is None else str(source)
        remedy = "Write the spec anew with `python -m bench run --dry-run`."
        if not isinstance(data, Mapping):
            raise SettingsError("spec", f"is {_kind(data)}, not an object", remedy, where)
        content = dict(data)
        recorded = content.pop("cell", None)
        known = {item.name: item for item in fields(cls)}
        for key in content:
            if key not in known:
                raise SettingsError(key, "is not a key of a cell's spec", f"Known: {', '.join(known)}.", where)
        for key in known:
            if key not in content:
                raise SettingsError(key, "is missing from the cell's spec", remedy, where)
            problem = _problem(key, content[key])
            if problem:
                raise SettingsError(key, problem, remedy, where)
        for key in content["task_data"]:
            if not isinstance(content["task_settings"].get(key), str):
                raise SettingsError("task_data", f"{key} is no task setting that names a file", remedy, where)
        spec = cls(**json.loads(json.dumps(content)))
        if recorded is not None and recorded != spec.id:
            raise SettingsError("cell", f"the id is {spec.id}, but {recorded} is recorded", remedy, where)
        return spec


_TEXT = {"task", "task_label", "method", "variant", "impl", "precision", "preset"}
_TABLES = {"task_settings", "method_settings", "backbone", "train", "trainer"}
_PLUGIN_KEYS = {"kind", "id", "path", "sha256"}


def _kind(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _problem(key: str, value: Any) -> str | None:
    """What is wrong with one key of a spec, or None."""
    if key in _TEXT:
        if not isinstance(value, str):
            return f"is {_kind(value)}, not a string"
        if not value and key not in {"variant", "preset"}:
            return "is empty"
        if key in {"task_label", "method", "variant"} and value and not _NAME.fullmatch(value):
            return f"{value!r} cannot stand in a folder's name"
        if key == "precision" and value not in PRECISIONS:
            return f"{value!r} is none of {', '.join(PRECISIONS)}"
        if key == "impl" and value == "auto":
            return "is auto, which is resolved before a spec is written"
    elif key in _TABLES:
        if not isinstance(value, dict):
            return f"is {_kind(value)}, not an object"
    elif key in {"task_version", "seed", "threads"}:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"is {_kind(value)}, not a whole number" if not isinstance(value, float) else f"{value} is not whole"
        if value < (1 if key == "threads" else 0):
            return f"{value} is too small"
    elif key == "time_limit_s":
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            return f"{value!r} is not a positive number of seconds, nor null"
    elif key == "task_data":
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            return "is not an object of settings and sha256"
    elif key == "plugins" and not (
        isinstance(value, list)
        and all(
            isinstance(plugin, dict)
            and set(plugin) == _PLUGIN_KEYS
            and all(isinstance(entry, str) for entry in plugin.values())
            and plugin["kind"] in {"method", "task"}
            for plugin in value
        )
    ):
        return "is not a list of objects with kind (method or task), id, path and sha256"
    return None
