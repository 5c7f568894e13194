"""A study: the cells that a preset, flags and plugins come to, complete and checked before the first of them starts.

A setting's value is the last one of: the dataclass's default, the preset's common settings, the preset's settings for
the method, the method expression's variant, ``--set``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.clock.settings import ClockSettings
from bench.devices import check_accelerator, device_type
from bench.parts import Part, blamed, load_part
from bench.presets.preset import COMMON, PER_METHOD, Preset, StudyKeys, TaskEntry, join_expression
from bench.settings import Given, Key, TrainerKeys, as_json, build, keys, located
from bench.spec import CellSpec, join_variant, split_expression
from bench.task_data import identify
from bench.wandb_export.settings import WandbSettings
from models import cost
from models.card import chosen_impl
from models.errors import SettingsError
from models.nearest import nearest
from models.registry import METHODS
from tasks.registry import TASKS

Layers = dict[str, dict[str, Given]]
"""Section to field to value, as written."""
_NOT_SETTABLE = ("about",)


@dataclass(frozen=True)
class Study:
    """A named set of cells.

    Args:
        name: the study's folder name.
        preset: the shipped preset it came from; empty for a ``--config`` file.
        cells: what to run, in order: by task, then seed, then method.
        parts: the tasks and methods, by section: ``task.<id>``, ``method.<id>``.
        about: what the preset says of itself.
        judged_by: the split whose scores the report shows.
        clock: how time and memory are measured after them.
        wandb: what becomes of them in W&B.
        memory_limit: bytes that a cell on the CPU may allocate; None for a share of what is free.
        fall_backs: for each method whose card names no impl for the device as the fastest: what `auto` is, and why.
    """

    name: str
    preset: str
    cells: list[CellSpec]
    parts: dict[str, Part]
    about: str
    judged_by: str
    clock: ClockSettings
    wandb: WandbSettings
    memory_limit: int | None
    fall_backs: dict[str, str]

    @property
    def cards(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What ``tasks``, ``methods`` and ``presets`` say of themselves, by id: title, family, metric and so on."""
        cards: dict[str, dict[str, dict[str, Any]]] = {"tasks": {}, "methods": {}, "presets": {}}
        cards["presets"][self.preset or self.name] = {"about": self.about, "judged_by": self.judged_by}
        for section, part in self.parts.items():
            kind, _, name = section.partition(".")
            cards[f"{kind}s"][name] = part.card
        return cards


def plan(
    preset: Preset,
    *,
    name: str,
    preset_name: str = "",
    tasks: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    assignments: Iterable[str] = (),
    plugins: Sequence[Mapping[str, str]] = (),
    check_device: bool = True,
) -> Study:
    """Expands a preset to cells.

    Args:
        preset: the parsed file.
        name: the study's name.
        preset_name: the shipped preset's name; empty for a file of the user's.
        tasks: ids, in place of all of the preset's.
        methods: method expressions, in place of those that the preset lists.
        seeds: in place of the preset's.
        assignments: ``KEY=VALUE`` texts of ``--set``; the last one for a key wins.
        plugins: what `bench.plugins.add_plugins` returned.
        check_device: whether this machine must have the device that ``trainer.accelerator`` names.

    Raises:
        SettingsError: something cannot work; nothing has been written yet.
    """
    chosen = _chosen_tasks(preset, tasks)
    expressions = {task: _expressions(task, preset.tasks[task], methods, preset.source) for task in chosen}
    asked = {split_expression(expression)[0] for listed in expressions.values() for expression in listed}
    parts = {f"task.{task}": load_part(TASKS, task) for task in sorted(chosen)}
    parts |= {f"method.{method}": load_part(METHODS, method) for method in sorted(asked)}
    overrides = _overrides(assignments, parts)
    asked_for = overrides.pop("", {})
    study_values = {**preset.study, **asked_for}
    if seeds is not None:
        study_values["seeds"] = Given(list(seeds), "--seeds")
    study: StudyKeys = build(StudyKeys, "", study_values)
    clock: ClockSettings = build(ClockSettings, "clock", {**preset.clock, **overrides.pop("clock", {})})
    wandb: WandbSettings = build(WandbSettings, "wandb", {**preset.wandb, **overrides.pop("wandb", {})})
    cells: list[CellSpec] = []
    fall_backs: dict[str, str] = {}
    for task in chosen:
        entry = preset.tasks[task]
        first = [
            _cell(task, written, entry, overrides, parts, check_device, fall_backs) for written in expressions[task]
        ]
        _refuse_duplicates(first)
        own = entry.seeds if seeds is None and "seeds" not in asked_for else {}
        for seed in build(StudyKeys, "", {**study_values, **own}).seeds:
            cells += [
                replace(
                    cell,
                    seed=seed,
                    plugins=[dict(plugin) for plugin in plugins if _is_part_of(plugin, cell)],
                    preset=preset_name,
                    threads=study.threads,
                    time_limit_s=study.time_limit_s,
                )
                for cell in first
            ]
    limit = None if study.memory_limit_gb is None else int(study.memory_limit_gb * 1e9)
    return Study(
        name=name,
        preset=preset_name,
        cells=cells,
        parts=parts,
        about=study.about,
        judged_by=study.judged_by,
        clock=clock,
        wandb=wandb,
        memory_limit=limit,
        fall_backs=fall_backs,
    )


def settable(parts: Mapping[str, Part]) -> list[Key]:
    """Every key that ``--set`` takes where a study has these tasks and methods."""
    found = [key for key in keys(StudyKeys, "") if key.key not in _NOT_SETTABLE]
    for section, cls in {**_common_classes(), "clock": ClockSettings, "wandb": WandbSettings}.items():
        found += keys(cls, section)
    for section, part in parts.items():
        if section.startswith("method."):
            impls = ", ".join(["auto", *part.card["impls"]])
            about = "How it is computed; auto is the fastest that is proven on the device."
            found.append(Key(f"{section}.impl", f"one of {impls}", "auto", about))
        found += keys(part.settings, section)
    return found


def _chosen_tasks(preset: Preset, tasks: Sequence[str] | None) -> list[str]:
    for task in tasks if tasks is not None else preset.tasks:
        if tasks is None:
            with located("tasks", {f"tasks.{task}": Given(task, preset.source)}):
                TASKS.check(task, f"tasks.{task}")
        TASKS.check(task)
        if task not in preset.tasks:
            remedy = f"It has {', '.join(preset.tasks)}. Give another task its settings in a file, with --config."
            raise SettingsError("--tasks", f"{preset.source} has no settings for {task}", remedy)
    return list(dict.fromkeys(tasks if tasks is not None else preset.tasks))


def _expressions(task: str, entry: TaskEntry, methods: Sequence[str] | None, source: str) -> list[str]:
    """The method expressions to run on a task, variants in canonical order."""
    found = []
    for written in methods if methods is not None else entry.expressions():
        key = "--methods" if methods is not None else f"tasks.{task}.methods.{written}"
        method, variant = split_expression(written, key)
        for setting in variant:
            section, dot, _ = setting.partition(".")
            if dot and section not in PER_METHOD:
                remedy = f"Write its own settings, or {' or '.join(f'{name}.*' for name in PER_METHOD)}."
                raise SettingsError(key, f"{setting} in {written} cannot be set for one method", remedy)
        with located(key, {} if methods is not None else {key: Given(written, source)}):
            METHODS.check(method, key)
        found.append(join_expression(method, variant))
    if not found:
        remedy = "List some in the file, or give --methods."
        raise SettingsError(f"tasks.{task}.methods", "names no method", remedy, source)
    return list(dict.fromkeys(found))


def _overrides(assignments: Iterable[str], parts: Mapping[str, Part]) -> Layers:
    """The values of ``--set`` by section; the study's own keys under the section ''."""
    layers: Layers = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(key, "has no value", "Write --set KEY=VALUE.", "--set")
        match key.split("."):
            case [("task" | "method") as kind, name, field]:
                section = f"{kind}.{name}"
                if section not in parts:
                    with located(key, {key: Given(value, "--set")}):
                        (TASKS if kind == "task" else METHODS).check(name, key)
                    present = [part.removeprefix(f"{kind}.") for part in parts if part.startswith(kind)]
                    remedy = f"Its {kind}s are {', '.join(present)}."
                    raise SettingsError(key, f"the study has no cell of the {kind} {name}", remedy, "--set")
            case [section, field] if section in (*COMMON, "clock", "wandb"):
                pass
            case [field] if field in StudyKeys.__dataclass_fields__ and field not in _NOT_SETTABLE:
                section = ""
            case _:
                near = nearest(key, [known.key for known in settable(parts)], complete=False)
                raise SettingsError(key, "there is no such key", f"{near}The flag --keys lists all.", "--set")
        layers.setdefault(section, {})[field] = Given(value, "--set")
    return layers


def _cell(
    task: str,
    expression: str,
    entry: TaskEntry,
    overrides: Layers,
    parts: Mapping[str, Part],
    check_device: bool,
    fall_backs: dict[str, str],
) -> CellSpec:
    """The cell of a method expression on a task, with seed 0; see `_impl` for `fall_backs`."""
    method, variant = split_expression(expression)
    layers: Layers = {section: dict(values) for section, values in entry.common.items()}
    layers[f"task.{task}"] = dict(entry.task)
    own = layers[f"method.{method}"] = {}
    for key, given in entry.entry(method, variant).items():
        section, field = _place(method, key)
        layers[section][field] = given
    for key, value in variant.items():
        section, field = _place(method, key)
        layers[section][field] = Given(value, f"the method expression {expression}")
    for section, values in overrides.items():
        if section in layers:
            layers[section].update(values)
    for key, value in variant.items():
        section, field = _place(method, key)
        last = layers[section][field]
        if last.value != value:
            problem = f"is set to {last.value}, but the method expression {expression} says {value}"
            raise SettingsError(f"{section}.{field}", problem, "Keep one of the two.", last.source)

    about = f", for {expression} on {task}"
    task_part, method_part = parts[f"task.{task}"], parts[f"method.{method}"]
    given_impl = own.pop("impl", None)
    written = {f"{section}.{field}": given for section, values in layers.items() for field, given in values.items()}
    common = {name: build(cls, name, layers[name]) for name, cls in _common_classes().items()}
    task_settings = _settings(task_part, layers[f"task.{task}"])
    method_settings = _settings(method_part, own)
    with located("trainer", written):
        if check_device:
            check_accelerator(common["trainer"].accelerator)
    impl = _impl(method, method_part.card, given_impl, common["trainer"].accelerator, fall_backs)
    with located(f"task.{task}", written, about):
        if hasattr(task_part.module, "check"):
            task_part.call("check", task_settings, common["train"])
    with located(f"method.{method}", written, about):
        if hasattr(method_part.module, "check"):
            method_part.call("check", method_settings, common["backbone"], common["train"].block_length)
    _check_formulas(method_part, method_settings, common["backbone"], common["train"])
    acts = task_part.card["objective"] == "episodes"
    if acts or hasattr(task_part.module, "check_horizon"):
        from models.backbone import horizon

        reach = horizon(method, method_settings, common["backbone"], common["train"].block_length, impl)
        longest = getattr(method_settings, "max_span", None)
        if reach and isinstance(longest, int):  # the reach is a new model's; spans that are learned may grow as long
            reach = max(reach, longest)
    if acts and reach == 0 and common["train"].block_length > 1:
        problem = f"is {common['train'].block_length}{about}: without memory each step stands alone, not each block"
        source = getattr(written.get("train.block_length"), "source", None)
        raise SettingsError("train.block_length", problem, "Give this method train.block_length: 1.", source)
    if hasattr(task_part.module, "check_horizon"):
        with located(f"task.{task}", written, about):
            task_part.call("check_horizon", task_settings, reach)
    if hasattr(method_part.module, "check_objective"):
        with located(f"method.{method}", written, about):
            method_part.call("check_objective", method_settings, task_part.card["objective"])
    label = task_part.call("label", task_settings) if hasattr(task_part.module, "label") else task
    trainer = as_json(common["trainer"])
    with located("", written, about):
        task_json, task_data = identify(f"task.{task}", task_part.card, as_json(task_settings))
        method_json, _ = identify(f"method.{method}", {}, as_json(method_settings))
    return CellSpec(
        task=task,
        # A label may hold the name of a user's file; a cell's id is a folder's name.
        task_label=re.sub(r"[^A-Za-z0-9_.-]+", "-", str(label)),
        task_version=task_part.card["version"],
        task_settings=task_json,
        task_data=task_data,
        method=method,
        variant=join_variant(variant),
        method_settings=method_json,
        impl=impl,
        backbone=as_json(common["backbone"]),
        train=as_json(common["train"]),
        precision=trainer.pop("precision"),
        trainer=trainer,
        seed=0,
    )


def _place(method: str, key: str) -> tuple[str, str]:
    """Section and field of a key that stands under a method, or in its expression."""
    section, dot, field = key.partition(".")
    return (section, field) if dot else (f"method.{method}", key)


def _settings(part: Part, values: Mapping[str, Given]) -> Any:
    with blamed(part.section, "its Settings fail", part.file):
        return build(part.settings, part.section, values)


def _check_formulas(part: Part, settings: Any, backbone: Any, train: Any) -> None:
    """Raises SettingsError where a card's `cost` or `state` is no formula, before anything is trained."""
    named = cost.sizes_of(backbone.sizes(train.block_length), train.evaluation_batch_size)
    for stated in (cost.flops_per_token, cost.state_numbers):
        try:
            stated(part.card, vars(settings), named, 1.0)
        except cost.NotAFormula as error:
            raise SettingsError("CARD", str(error), "models/cost.py says what a formula may have.") from error


def _impl(
    method: str, card: Mapping[str, Any], given: Given | None, accelerator: str, fall_backs: dict[str, str]
) -> str:
    """The impl a method is computed with; `auto`, the default, is what its card names for the device.

    Where the card names none, the impl and the reason are added to `fall_backs`.
    """
    impls = card["impls"]
    if given is None or given.value == "auto":
        impl, reason = chosen_impl(card, device_type(accelerator))
        if reason:
            fall_backs[method] = reason
        return impl
    if given.value not in impls:
        problem = f"there is no impl {given.value!r}"
        raise SettingsError(f"method.{method}.impl", problem, nearest(str(given.value), ["auto", *impls]), given.source)
    return str(given.value)


def _common_classes() -> dict[str, type[Any]]:
    from models.backbone import BackboneSettings
    from tasks.train_settings import TrainSettings

    return {"backbone": BackboneSettings, "train": TrainSettings, "trainer": TrainerKeys}


def _is_part_of(plugin: Mapping[str, str], cell: CellSpec) -> bool:
    return (plugin["kind"], plugin["id"]) in {("task", cell.task), ("method", cell.method)}


def _refuse_duplicates(cells: Iterable[CellSpec]) -> None:
    """Two expressions with the same settings would be one computation shown under two names."""
    seen: dict[str, CellSpec] = {}
    for cell in cells:
        content = {key: value for key, value in cell.to_json().items() if key != "variant"}
        same = seen.setdefault(str(sorted(content.items())), cell)
        if same is not cell:
            problem = f"{same.expression} and {cell.expression} have the same settings on {cell.task}"
            raise SettingsError("--methods", problem, "Leave one of them out.")
