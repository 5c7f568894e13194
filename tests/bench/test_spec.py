"""A cell's spec: its id, what the id depends on, and what a damaged file says."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.spec import CellSpec, TrainerSettings, join_variant, split_expression
from models.errors import SettingsError


def spec(**changes: Any) -> CellSpec:
    plain = CellSpec(
        task="enwik8",
        task_label="enwik8-4M",
        task_version=1,
        task_settings={"path": None},
        method="expire_span",
        variant="",
        method_settings={"max_span": 96, "noisy": False},
        impl="reference",
        backbone={"layers": 2},
        train={"learning_rate": 3e-3},
        trainer={"devices": 1},
        precision="32-true",
        seed=0,
    )
    return dataclasses.replace(plain, **changes)


PLUGIN = {"kind": "method", "id": "mine", "path": "../mine.py", "sha256": "ab"}


def test_id_names_task_method_variant_and_seed() -> None:
    cell = spec(method="full_attention", variant="memory=none", seed=3)
    assert cell.id == f"enwik8-4M--full_attention+memory=none--s3--{cell.digest[:8]}"


def test_id_is_the_same_in_every_version() -> None:
    # Stored studies are found again by this id: a change to it orphans them all.
    assert spec().id == "enwik8-4M--expire_span--s0--9f57df53"


@pytest.mark.parametrize(
    "changes",
    [
        {"task_version": 2},
        {"task_settings": {"path": "text8"}},
        {"method_settings": {"max_span": 97, "noisy": False}},
        {"impl": "fast"},
        {"backbone": {"layers": 3}},
        {"train": {"learning_rate": 2e-3}},
        {"trainer": {"devices": 2}},
        {"precision": "bf16-mixed"},
        {"seed": 1},
        {"plugins": [PLUGIN]},
    ],
)
def test_id_changes_with_what_the_cell_computes(changes: dict[str, Any]) -> None:
    assert spec(**changes).digest != spec().digest


@pytest.mark.parametrize("changes", [{"preset": "quick"}, {"threads": 2}, {"time_limit_s": 60.0}])
def test_id_does_not_change_with_how_the_cell_is_run(changes: dict[str, Any]) -> None:
    assert spec(**changes).id == spec().id


def test_id_does_not_change_when_a_plugin_moves_but_when_its_content_does() -> None:
    moved, edited = {**PLUGIN, "path": "mine.py"}, {**PLUGIN, "sha256": "cd"}
    assert spec(plugins=[moved]).id == spec(plugins=[PLUGIN]).id != spec(plugins=[edited]).id


def test_id_does_not_depend_on_the_order_of_keys() -> None:
    assert spec(method_settings={"noisy": False, "max_span": 96}).id == spec().id


def test_json_gives_the_same_spec_back() -> None:
    cell = spec(plugins=[PLUGIN], time_limit_s=60.0)
    assert CellSpec.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_manifest_entry_is_checked_against_its_id() -> None:
    entry = {**spec().to_json(), "cell": spec().id}
    assert CellSpec.from_json(entry) == spec()
    with pytest.raises(SettingsError, match=r"manifest\.json.*the id is .* but .* is recorded"):
        CellSpec.from_json({**entry, "seed": 1}, Path("manifest.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sede": 1}, "sede .*is not a key of a cell's spec"),
        ({"seed": "0"}, "seed .*is a string, not a whole number"),
        ({"seed": True}, "seed .*is a boolean"),
        ({"seed": -1}, "seed .*too small"),
        ({"threads": 0}, "threads .*too small"),
        ({"impl": "auto"}, "impl .*resolved before"),
        ({"precision": "bf16"}, "precision .*none of"),
        ({"train": []}, "train .*is a list, not an object"),
        ({"method": "a/b"}, "method .*folder's name"),
        ({"task": None}, "task .*is null, not a string"),
        ({"time_limit_s": 0}, "time_limit_s .*positive"),
        ({"plugins": [{"kind": "method"}]}, "plugins .*kind"),
    ],
)
def test_wrong_json_names_key_and_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        CellSpec.from_json({**spec().to_json(), **changes}, "runs/x/spec.json")
    assert caught.value.source == "runs/x/spec.json"


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(CellSpec)])
def test_missing_key_is_named(key: str) -> None:
    content = spec().to_json()
    del content[key]
    with pytest.raises(SettingsError, match="is missing") as caught:
        CellSpec.from_json(content)
    assert caught.value.key == key


@pytest.mark.parametrize("content", [None, [], "spec", 3])
def test_json_that_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(SettingsError, match="not an object"):
        CellSpec.from_json(content)


def test_settings_that_are_not_finite_never_reach_a_file() -> None:
    with pytest.raises(ValueError, match="JSON"):
        spec(train={"learning_rate": float("nan")}).to_json()


def test_expression_comes_apart_and_together_in_one_order() -> None:
    name, settings = split_expression("memory_transformer+slots=4+memory=none")
    assert (name, join_variant(settings)) == ("memory_transformer", "memory=none+slots=4")
    assert split_expression("lstm") == ("lstm", {})


@pytest.mark.parametrize("expression", ["a+", "a+b", "a+b=", "a+=c", "a+b=1+b=2", "a+b=../x", "", "a b"])
def test_wrong_expression_is_refused(expression: str) -> None:
    with pytest.raises(SettingsError):
        split_expression(expression)


@pytest.mark.parametrize("devices", [0, 2, "auto"])
def test_trainer_settings_refuse_all_but_one_device(devices: Any) -> None:
    with pytest.raises(SettingsError, match=r"trainer\.devices.*one device"):
        TrainerSettings(devices=devices)
    with pytest.raises(SettingsError, match=r"trainer\.num_nodes"):
        TrainerSettings(num_nodes=2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accelerator", "gpuu"),
        ("accelerator", None),
        ("strategy", "dpp"),
        ("enable_progress_bar", 1),
        ("deterministic", "warn"),
    ],
)
def test_trainer_settings_refuse_what_they_do_not_list(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"trainer\.{key}: is {value!r}, not one of "):
        TrainerSettings(**{key: value})


def test_reading_a_spec_needs_the_standard_library_alone(checkout: Path) -> None:
    code = "import sys, bench.spec; sys.exit(any(n in sys.modules for n in ('torch', 'yaml', 'jsonargparse', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout).returncode == 0
