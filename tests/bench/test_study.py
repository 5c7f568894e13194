"""A preset, flags and plugins come to cells: precedence, selection, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import presets
from bench.plugins import add_plugins, plugin_path, restore_plugins
from bench.presets.preset import read
from bench.spec import CellSpec
from bench.study import Study, plan, settable
from models.card import chosen_impl
from models.errors import SettingsError
from models.registry import METHODS
from tasks.registry import TASKS

TASK = '''"""A task made up for these tests."""
from dataclasses import dataclass
from models.errors import SettingsError

CARD = {
    "title": "Echo", "metric": "accuracy", "unit": "share", "higher_is_better": True, "version": 3,
    "objective": "streams", "sizes": ["quick"],
}

@dataclass(frozen=True)
class Settings:
    """Settings of echo."""

    length: int = 8
    """Symbols."""
    path: str | None = None
    """A file."""

def check(settings, train):
    if settings.length < train.block_length:
        raise SettingsError("task.echo.length", f"{settings.length} is less than a block", "Raise it.")

def label(settings):
    return f"echo {settings.length}"
'''
METHOD = '''"""A method made up for these tests."""
from dataclasses import dataclass
from models.errors import SettingsError

CARD = {
    "title": "Ring", "family": "fixed", "paper": "none",
    "impls": ["fast", "reference"], "colour": "#000", "marker": "o",
}

@dataclass(frozen=True)
class Settings:
    """Settings of ring."""

    slots: int = 4
    """Memories kept."""
    mode: str = "a"
    """How."""

class Method:
    """Never built here."""

def check(settings, backbone, block_length):
    if settings.slots % backbone.heads or block_length % settings.slots:
        raise SettingsError("method.ring.slots", f"is {settings.slots}", "Choose another.")
'''
PRESET = """
about: made up
seeds: [0, 1]
time_limit_s: 60
tasks:
  echo:
    task: {length: 32}
    backbone: {layers: 1, width: 16, heads: 2}
    train: {steps: 5, block_length: 16, learning_rate: 1e-3}
    trainer: {precision: bf16-mixed}
    methods:
      ring: {slots: 8, train.learning_rate: 2e-3, backbone.layers: 3}
      ring+mode=b: {slots: 2}
      transformer_xl: {memory_length: 32}
      default: {train.steps: 7}
"""
Planner = Callable[..., Study]


@pytest.fixture
def planner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """Plans the preset above, changed by (old, new) texts, with the two plugins."""
    monkeypatch.setattr(METHODS, "_plugins", {})
    monkeypatch.setattr(TASKS, "_plugins", {})
    (tmp_path / "echo.py").write_text(TASK)
    (tmp_path / "ring.py").write_text(METHOD)
    plugins = add_plugins([tmp_path / "echo.py", tmp_path / "ring.py"])

    def run(*changes: tuple[str, str], **options: Any) -> Study:
        text = PRESET
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "made.yaml").write_text(text)
        return plan(read(tmp_path / "made.yaml", "made.yaml"), name="made", plugins=plugins, **options)

    return run


def cell(study: Study, expression: str) -> CellSpec:
    return next(cell for cell in study.cells if cell.expression == expression)


def test_cells_are_tasks_by_seeds_by_methods(planner: Planner) -> None:
    study = planner()
    assert [(spec.expression, spec.seed) for spec in study.cells] == [
        (expression, seed) for seed in (0, 1) for expression in ("ring", "ring+mode=b", "transformer_xl")
    ]
    assert len({spec.id for spec in study.cells}) == 6
    assert study.cards["tasks"]["echo"]["title"] == "Echo"
    assert list(study.cards["presets"]) == ["made"]
    assert sorted(study.cards["methods"]) == ["ring", "transformer_xl"]


def test_a_tasks_own_seeds_stand_for_the_studys_unless_a_flag_says_otherwise(planner: Planner) -> None:
    own = ("    task: {length: 32}", "    seeds: [7, 8, 9]\n    task: {length: 32}")
    assert {spec.seed for spec in planner(own).cells} == {7, 8, 9}
    assert {spec.seed for spec in planner(own, seeds=[5]).cells} == {5}
    assert {spec.seed for spec in planner(own, assignments=["seeds=[6]"]).cells} == {6}
    for wrong in ("[1, 1]", "[]", "[-1]"):
        with pytest.raises(SettingsError, match=r"tasks\.echo\.seeds \(in made\.yaml\)"):
            planner((own[0], own[1].replace("[7, 8, 9]", wrong)))


def test_spec_is_complete(planner: Planner) -> None:
    spec = cell(planner(), "ring")
    assert (spec.task, spec.task_version, spec.task_label) == ("echo", 3, "echo-32")
    assert spec.task_settings == {"length": 32, "path": None}
    assert spec.method_settings == {"slots": 8, "mode": "a"}
    assert spec.precision == "bf16-mixed"
    assert "precision" not in spec.trainer
    assert spec.train["optimiser"] == "adam"
    assert (spec.threads, spec.time_limit_s, spec.preset) == (1, 60.0, "")
    assert CellSpec.from_json(spec.to_json()) == spec


def test_auto_is_what_a_card_names_for_the_device_else_the_first_impl() -> None:
    card = {"impls": ["reference", "fast"], "auto": {"cpu": "fast"}}
    assert [chosen_impl(card, device)[0] for device in ("cpu", "cuda", "mps")] == ["fast", "reference", "reference"]
    assert [chosen_impl(card, device)[1] for device in ("cpu", "cuda")] == [
        None,
        "reference, as its card names no impl for cuda; it also has fast",
    ]
    assert chosen_impl({"impls": ["reference"]}, "cuda") == ("reference", None)


def test_auto_becomes_the_first_impl(planner: Planner) -> None:
    assert cell(planner(), "ring").impl == "fast"
    assert planner().fall_backs == {"ring": "fast, as its card names no impl for cpu; it also has reference"}
    chosen = planner(assignments=["method.ring.impl=reference"])
    assert (cell(chosen, "ring").impl, chosen.fall_backs) == ("reference", {})
    assert cell(planner(methods=["ring+impl=reference"]), "ring+impl=reference").impl == "reference"
    with pytest.raises(SettingsError, match=r"method\.ring\.impl \(in --set\): there is no impl 'slow'"):
        planner(assignments=["method.ring.impl=slow"])


def test_later_layers_win(planner: Planner) -> None:
    study = planner()
    assert cell(study, "ring").train["learning_rate"] == 2e-3  # per method over common
    assert cell(study, "ring").backbone["layers"] == 3
    assert cell(study, "transformer_xl").train["learning_rate"] == 1e-3
    assert cell(study, "transformer_xl").backbone["layers"] == 1
    assert cell(study, "ring+mode=b").method_settings == {"slots": 2, "mode": "b"}  # variant over defaults
    study = planner(assignments=["train.learning_rate=5e-3", "method.ring.slots=4", "method.ring.slots=16"])
    assert {spec.train["learning_rate"] for spec in study.cells} == {5e-3}  # --set over per method
    assert {spec.method_settings.get("slots") for spec in study.cells} == {16, None}  # the last --set


def test_set_reaches_every_section(planner: Planner) -> None:
    words = ["task.echo.length=64", "backbone.width=32", "trainer.strategy=ddp", "threads=3", "time_limit_s=null"]
    study = planner(assignments=words)
    spec = study.cells[0]
    assert (spec.task_settings["length"], spec.backbone["width"], spec.trainer["strategy"]) == (64, 32, "ddp")
    assert (spec.threads, spec.time_limit_s) == (3, None)


def test_whole_number_for_a_float_is_the_same_cell(planner: Planner) -> None:
    one, other = (planner(assignments=[f"train.learning_rate={value}"]) for value in ("1", "1.0"))
    assert [spec.id for spec in one.cells] == [spec.id for spec in other.cells]


def test_unlisted_method_gets_common_settings_and_default_entry(planner: Planner) -> None:
    spec = planner(methods=["expire_span"], seeds=[0]).cells[0]
    assert spec.train["steps"] == 7
    assert spec.train["learning_rate"] == 1e-3
    assert spec.method_settings["max_span"] == 512


def test_unlisted_variant_takes_the_entry_of_its_method(planner: Planner) -> None:
    spec = planner(methods=["ring+mode=c"], seeds=[0]).cells[0]
    assert spec.method_settings == {"slots": 8, "mode": "c"}


def test_a_variant_may_have_training_and_backbone_of_its_own(planner: Planner) -> None:
    """It takes the entry of its method, or of the variant that it is with common training."""
    of_method, of_variant = planner(
        methods=["ring+train.learning_rate=4e-3+backbone.layers=2", "ring+mode=b+train.learning_rate=4e-3"], seeds=[0]
    ).cells
    assert of_method.id.startswith("echo-32--ring+backbone.layers=2+train.learning_rate=4e-3--s0--")
    assert (of_method.train["learning_rate"], of_method.backbone["layers"]) == (4e-3, 2)
    assert of_method.method_settings == {"slots": 8, "mode": "a"}
    assert (of_variant.train["learning_rate"], of_variant.backbone["layers"]) == (4e-3, 1)
    assert of_variant.method_settings == {"slots": 2, "mode": "b"}


def test_selection_by_flags(planner: Planner) -> None:
    study = planner(methods=["ring"], seeds=[5], tasks=["echo"])
    assert [(spec.method, spec.seed) for spec in study.cells] == [("ring", 5)]


def test_variants_keys_have_one_order(planner: Planner) -> None:
    study = planner(methods=["ring+slots=8+mode=b", "ring+mode=b+slots=8"], seeds=[0])
    assert [spec.variant for spec in study.cells] == ["mode=b+slots=8"]


def test_two_names_for_the_same_settings_are_refused(planner: Planner) -> None:
    with pytest.raises(SettingsError, match="ring and ring\\+mode=a have the same settings on echo"):
        planner(methods=["ring", "ring+mode=a"])


def test_set_may_not_contradict_a_variant(planner: Planner) -> None:
    with pytest.raises(SettingsError, match=r"ring\+mode=b says b"):
        planner(assignments=["method.ring.mode=c"])
    with pytest.raises(SettingsError, match=r"train\.steps \(in --set\): is set to 6, but .*steps=5 says 5"):
        planner(methods=["ring+train.steps=5"], assignments=["train.steps=6"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assignments": ["train.steps"]}, r"train\.steps \(in --set\): has no value"),
        ({"assignments": ["trian.steps=3"]}, r"trian\.steps \(in --set\): .*Did you mean train\.steps\?"),
        ({"assignments": ["slots=3"]}, r"Did you mean method\.ring\.slots\?"),
        ({"assignments": ["train.stepps=3"]}, r"train\.stepps \(in --set\): .*Did you mean train\.steps\?"),
        ({"assignments": ["train.steps=few"]}, r"train\.steps \(in --set\): 'few' is not a whole number"),
        ({"assignments": ["train.steps=0"]}, r"train\.steps \(in --set\): is 0"),
        ({"assignments": ["method.rng.slots=3"]}, r"method\.rng\.slots \(in --set\): .*Did you mean ring\?"),
        ({"assignments": ["method.lstn.slots=3"]}, r"method\.lstn\.slots \(in --set\): there is no method"),
        ({"assignments": ["method.expire_span.ramp=3"]}, r"the study has no cell of the method expire_span"),
        ({"assignments": ["task.enwik8.path=x"]}, r"the study has no cell of the task enwik8"),
        ({"assignments": ["method.ring.slots=3"]}, r"method\.ring\.slots \(in --set\): is 3, for ring on echo"),
        ({"assignments": ["task.echo.length=3"]}, r"task\.echo\.length \(in --set\): 3 is less than a block"),
        ({"methods": ["rng"]}, r"--methods: there is no method 'rng'. Did you mean ring\?"),
        ({"methods": ["ring+train.stepps=3"]}, r"train\.stepps \(in .* expression .*Did you mean train\.steps"),
        ({"methods": ["ring+trainer.devices=1"]}, r"--methods: trainer\.devices in .* cannot be set for one method"),
        ({"methods": ["ring+"]}, r"--methods: .*not key=value"),
        ({"methods": ["ring+slot=3"]}, r"method\.ring\.slot \(in the method expression ring\+slot=3\)"),
        ({"tasks": ["eco"]}, r"--tasks: there is no task 'eco'. Did you mean echo\?"),
        ({"tasks": ["enwik8"]}, r"--tasks: made\.yaml has no settings for enwik8"),
        ({"seeds": [1, 1]}, r"seeds \(in --seeds\)"),
        ({"seeds": [2**63]}, r"seeds \(in --seeds\): are .* up to 9,223,372,036,854,775,807"),
        ({"seeds": [-1]}, r"seeds \(in --seeds\)"),
        (
            {"assignments": ["trainer.accelerator=gpuu"]},
            r"trainer\.accelerator \(in --set\): 'gpuu' is not one of auto",
        ),
        ({"assignments": ["trainer.strategy=dpp"]}, r"trainer\.strategy \(in --set\): 'dpp' is not one of auto, ddp"),
    ],
)
def test_wrong_flag_names_the_key_and_the_nearest(planner: Planner, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        planner(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds:", "sedes:"), r"sedes \(in made\.yaml\): .*Did you mean seeds\?"),
        (("train: {", "trian: {"), r"tasks\.echo\.trian \(in made\.yaml\): .*Did you mean train\?"),
        (("steps: 5", "stepps: 5"), r"train\.stepps \(in made\.yaml, tasks\.echo\.train\): .*mean train\.steps\?"),
        (("{slots: 8", "{slot: 8"), r"method\.ring\.slot \(in made\.yaml, tasks\.echo\.methods\.ring\): .*ring\.slots"),
        (("backbone.layers: 3", "task.length: 3"), r"methods\.ring\.task\.length .*cannot be set for one method"),
        (("{train.steps: 7}", "{slots: 7}"), r"methods\.default\.slots .*is a method's own setting"),
        (("ring: {", "rng: {"), r"tasks\.echo\.methods\.rng \(in made\.yaml\): .*Did you mean ring\?"),
        (("  echo:", "  eco:"), r"tasks\.eco \(in made\.yaml\): .*Did you mean echo\?"),
        (("seeds: [0, 1]", "seeds: []"), r"seeds \(in made\.yaml\)"),
        (("time_limit_s: 60", "time_limit_s: -1"), r"time_limit_s \(in made\.yaml\)"),
        (("steps: 5", "steps: 5, steps: 6"), r"made\.yaml is not valid YAML: the key steps stands twice"),
        (("about: made up", "about: ["), r"made\.yaml is not valid YAML"),
        (("about: made up", "{}"), r"made\.yaml is not valid YAML"),
        (("about: made up\n", ""), r"about \(in made\.yaml\): is missing"),
        (("seeds: [0, 1]", "seeds: 2001-99-99"), r"made\.yaml is not valid YAML: month must be in 1\.\.12"),
        (("seeds: [0, 1]", "seeds: 2001-01-01"), r"seeds \(in made\.yaml\): .*is not list\[int\]"),
        (("seeds: [0, 1]", "seeds: &a [*a]"), r"not valid YAML: what begins in line 3 contains itself"),
        (("seeds: [0, 1]", "seeds: &a {b: [*a]}"), r"not valid YAML: what begins in line 3 contains itself"),
        (("seeds: [0, 1]", "? [a, b]\n: 1"), r"not valid YAML: the key in line 3 is a list or a mapping, not text"),
        (("seeds: [0, 1]", "? {a: b}\n: 1"), r"not valid YAML: the key in line 3 is a list or a mapping, not text"),
        (("seeds: [0, 1]", "seeds: " + "[" * 9000), r"not valid YAML: it is nested too deeply"),
        (("seeds: [0, 1]", "seeds: [0.5]"), r"seeds \(in made\.yaml\)"),
        (("about: made up", "about: 3"), r"about \(in made\.yaml\): 3 is not text"),
        (("backbone: {layers: 1, width: 16, heads: 2}", "backbone: []"), r"tasks\.echo\.backbone .*: is \[\], not a"),
        (
            ("train: {steps: 5, block_length: 16, learning_rate: 1e-3}", "train: 0"),
            r"tasks\.echo\.train .*: is 0, not a",
        ),
        (("task: {length: 32}", "task: ''"), r"tasks\.echo\.task .*: is '', not a mapping"),
        (
            ("{slots: 8, train.learning_rate: 2e-3, backbone.layers: 3}", "[]"),
            r"methods\.ring .*: is \[\], not a mapping",
        ),
        (("{slots: 8, train.learning_rate: 2e-3, backbone.layers: 3}", "false"), r"methods\.ring .*: is False, not a"),
        (("ring+mode=b: {slots: 2}", "ring+mode=b+slots=2: {}\n      ring+slots=2+mode=b: {}"), "stands there twice"),
    ],
)
def test_wrong_file_names_the_key_and_the_file(planner: Planner, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        planner(change)


def test_a_section_with_nothing_under_it_is_empty(planner: Planner) -> None:
    study = planner(("{slots: 8, train.learning_rate: 2e-3, backbone.layers: 3}", ""), ("{slots: 2}", "null"))
    assert cell(study, "ring").method_settings["slots"] == 4


def test_an_alias_stands_for_what_it_names(planner: Planner) -> None:
    study = planner(("ring: {slots: 8,", "ring: &own {slots: 8,"), ("{slots: 2}", "*own"))
    assert cell(study, "ring+mode=b").method_settings["slots"] == 8


def test_task_without_methods_is_refused(planner: Planner) -> None:
    with pytest.raises(SettingsError, match=r"tasks\.echo\.methods \(in made\.yaml\): names no method"):
        planner((PRESET[PRESET.index("    methods:") :], "    methods: {}\n"))


def test_file_without_tasks_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "about: x", "about: x\ntasks: {}", "3: x"):
        (tmp_path / "made.yaml").write_text(text)
        with pytest.raises(SettingsError):
            read(tmp_path / "made.yaml", "made.yaml")
    with pytest.raises(SettingsError, match="there is no file"):
        read(tmp_path / "none.yaml", "none.yaml")


def test_method_that_cannot_be_imported_is_named(planner: Planner, tmp_path: Path) -> None:
    (tmp_path / "lame.py").write_text(METHOD.replace("from dataclasses", "import no_such_package\nfrom dataclasses"))
    add_plugins([tmp_path / "lame.py"])
    assert planner().cells
    with pytest.raises(
        SettingsError, match=r"method\.lame \(in lame\.py, line 2\): cannot be imported: .*no_such_package"
    ):
        planner(methods=["lame"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CARD = {", "size = wdith\nCARD = {", r"\(in lame\.py, line 5\): cannot be imported: NameError: name 'wdith'"),
        ("CARD = {", "raise SystemExit(0)\nCARD = {", r"\(in lame\.py, line 5\): cannot be imported: SystemExit: 0"),
        ("CARD = {", "return\nCARD = {", r"\(in lame\.py, line 5\): cannot be imported: SyntaxError"),
        ("class Method:", "class Methods:", r"\(in lame\.py\): its module has no class Method"),
        ("class Settings:", "class Setting:", r"\(in lame\.py\): its module has no dataclass Settings"),
        ("slots: int", "slots: 'itn'", r"\(in lame\.py\): its Settings fail: NameError: name 'itn'"),
        (
            "    if settings.slots %",
            "    settings.slost\n    if settings.slots %",
            r"\(in lame\.py, line 23\): its function check fails: AttributeError",
        ),
        (
            "    if settings.slots %",
            "    raise SystemExit\n    if settings.slots %",
            r"\(in lame\.py, line 23\): its function check fails: SystemExit, for lame on echo",
        ),
    ],
)
def test_plugin_that_fails_is_blamed_with_file_and_line(
    planner: Planner, tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in METHOD
    (tmp_path / "lame.py").write_text(METHOD.replace(old, new, 1))
    add_plugins([tmp_path / "lame.py"])
    with pytest.raises(SettingsError, match=r"^method\.lame " + message):
        planner(methods=["lame"])


def test_task_whose_label_fails_is_blamed(planner: Planner, tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text(TASK.replace("settings.length}", "settings.size}"))
    add_plugins([tmp_path / "lost.py"])
    with pytest.raises(SettingsError, match=r"^task\.lost \(in lost\.py, line \d+\): its function label fails"):
        planner(("  echo:", "  lost:"))


@pytest.mark.parametrize(
    ("accelerator", "cuda", "mps", "there"),
    [
        ("gpu", False, False, False),
        ("gpu", True, False, True),
        ("gpu", False, True, True),
        ("cuda", False, True, False),
        ("cuda", True, False, True),
        ("mps", True, False, False),
        ("mps", False, True, True),
        ("auto", False, False, True),
        ("cpu", False, False, True),
    ],
)
def test_a_device_that_the_machine_lacks_is_refused(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, accelerator: str, cuda: bool, mps: bool, there: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    change = ("{precision: bf16-mixed}", f"{{accelerator: {accelerator}}}")
    if there:
        assert planner(change).cells[0].trainer["accelerator"] == accelerator
        return
    with pytest.raises(SettingsError) as caught:
        planner(change)
    message = str(caught.value)
    assert f"trainer.accelerator (in made.yaml, tasks.echo.trainer): is {accelerator}, and PyTorch finds no" in message
    assert "Set it to auto or cpu" in message
    assert planner(change, check_device=False).cells


def test_largest_seed_is_a_seed(planner: Planner) -> None:
    assert planner(seeds=[2**63 - 1]).cells[0].seed == 2**63 - 1


def test_spec_names_only_its_own_plugins_and_where_they_lie(planner: Planner, tmp_path: Path) -> None:
    study = planner()
    assert {plugin["id"] for plugin in cell(study, "ring").plugins} == {"echo", "ring"}
    assert {plugin["id"] for plugin in cell(study, "transformer_xl").plugins} == {"echo"}
    for plugin in cell(study, "ring").plugins:
        assert plugin_path(plugin) == (tmp_path / f"{plugin['id']}.py").resolve()


def test_setting_that_names_a_file_must_stand_in_the_card(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"task.echo.path={tmp_path / 'echo.py'}"]
    with pytest.raises(SettingsError, match=r'task\.echo\.path \(in --set\): names .*"files": \["path"\]'):
        planner(assignments=words)
    with pytest.raises(SettingsError, match=r"method\.ring\.mode \(in --set\): names "):
        planner(assignments=[f"method.ring.mode={tmp_path}"], methods=["ring"])
    card = {**TASKS.card("echo"), "files": ["path"]}
    monkeypatch.setattr(TASKS, "card", lambda name: card)
    assert list(planner(assignments=words).cells[0].task_data) == ["path"]
    assert planner().cells[0].task_data == {}
    card["files"] = ["pth"]
    with pytest.raises(SettingsError, match="not a list of its settings"):
        planner()


def test_plugins_are_found_again_and_changed_ones_refused(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = cell(planner(), "ring").plugins
    monkeypatch.setattr(METHODS, "_plugins", {})
    monkeypatch.setattr(TASKS, "_plugins", {})
    restore_plugins(entries)
    assert "ring" in METHODS.names()
    assert "echo" in TASKS.names()
    (tmp_path / "ring.py").write_text(METHOD + "# changed\n")
    with pytest.raises(SettingsError, match=r"plugins\.ring \(in spec\.json\): .*not the file"):
        restore_plugins(entries, "spec.json")
    (tmp_path / "ring.py").unlink()
    with pytest.raises(SettingsError, match="there is no file"):
        restore_plugins(entries)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("expire_span.py", METHOD, "name of a module"),
        ("two words.py", METHOD, "no Python name"),
        ("empty.py", "", "has no CARD"),
        ("poor.py", 'CARD = {"title": "x"}', r"CARD \(in poor\.py, line 1\): lacks family"),
        ("broken.py", "x = 1\nCARD = {", r"CARD \(in broken\.py, line 2\): the file does not parse"),
        (
            "latin.py",
            b"CARD = {'title': 'caf\xe9'}",
            r"CARD \(in latin\.py, line 1\): the file does not parse: .*utf-8",
        ),
        ("nul.py", b"CARD = {}\0", "the file does not parse"),
        ("computed.py", "CARD = dict()", r"CARD \(in computed\.py, line 1\): is not a literal"),
        ("keyed.py", "CARD = {[]: 1}", "is not a literal"),
        ("listed.py", "CARD = []", "is not a dictionary"),
        (
            "bare.py",
            METHOD.replace('["fast", "reference"]', "[]"),
            r"\(in bare\.py, line 5\): has impls \[\], not a list",
        ),
        ("word.py", METHOD.replace('["fast", "reference"]', '"reference"'), "has impls 'reference', not a list"),
        ("twice.py", METHOD.replace('"fast"', '"reference"'), "not a list of one or more different names"),
        (
            "nowhere.py",
            METHOD.replace('"colour"', '"auto": {"gpu": "fast"}, "colour"'),
            "has auto .*, not a dictionary",
        ),
        ("slow.py", METHOD.replace('"colour"', '"auto": {"cpu": "slow"}, "colour"'), "has auto .*, not a dictionary"),
        ("many.py", METHOD.replace('"colour"', '"auto": {"cpu": ["fast"]}, "colour"'), "has auto .*, not a dictionary"),
        ("untitled.py", METHOD.replace('"Ring"', "None"), "has title None, not text"),
        ("blank.py", METHOD.replace('"Ring"', '" "'), "has title ' ', not text"),
        ("numbered.py", TASK.replace('"version": 3', '"version": True'), "has version True, not a whole number"),
        ("worse.py", TASK.replace('"higher_is_better": True', '"higher_is_better": 1'), "has higher_is_better 1, not"),
    ],
)
def test_wrong_plugin_is_refused(
    name: str, text: str | bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS, "_plugins", {})
    monkeypatch.setattr(TASKS, "_plugins", {})
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=message):
        add_plugins([tmp_path / name])


def test_settable_lists_every_key_with_its_help(planner: Planner) -> None:
    listed = {key.key: key for key in settable(planner().parts)}
    for key in ("train.steps", "backbone.width", "trainer.precision", "task.echo.length", "method.ring.slots"):
        assert listed[key].help, key
    assert "fast" in listed["method.ring.impl"].type
    assert {"seeds", "threads", "time_limit_s"} < set(listed)
    assert "about" not in listed


def test_spans_that_may_outgrow_the_unscored_tokens_are_refused() -> None:
    preset = read(presets.path("small"), "small.yaml")
    assert plan(preset, name="s", tasks=["long_copy"], methods=["adaptive_span"])
    longer = ["method.adaptive_span.max_span=1000"]
    with pytest.raises(SettingsError, match=r"task\.long_copy\.unscored_tokens.*1000.*for adaptive_span on long_copy"):
        plan(preset, name="s", tasks=["long_copy"], methods=["adaptive_span"], assignments=longer)


def test_a_study_says_by_which_split_it_is_judged(planner: Planner) -> None:
    assert planner().cards["presets"]["made"]["judged_by"] == "test"
    chooses = planner(assignments=["judged_by=validation"])
    assert chooses.cards["presets"]["made"]["judged_by"] == "validation"
    assert [cell.id for cell in chooses.cells] == [cell.id for cell in planner().cells]
    with pytest.raises(SettingsError, match=r"judged_by.*'train' is not one of test, validation"):
        planner(assignments=["judged_by=train"])
