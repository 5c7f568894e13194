"""Space files: what they come to, and what is refused before the first trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from models.errors import SettingsError
from sweeps import search
from sweeps.space import Space, read
from sweeps.trial_cells import TrialCells

FILE: dict[str, Any] = {
    "about": "a space",
    "preset": "quick",
    "task": "enwik8",
    "method": "expire_span",
    "set": {"train.steps": 100},
    "parameters": {
        "train.learning_rate": {"low": 1.0e-4, "high": 1.0e-1, "log": True},
        "method.expire_span.max_span": {"low": 32, "high": 64, "step": 16},
    },
}


def space(folder: Path, **changes: Any) -> Space:
    """The file above with other keys; None takes one out."""
    content = {key: value for key, value in {**FILE, **changes}.items() if value is not None}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read(path)


def test_every_shipped_space_can_be_run(checkout: Path) -> None:
    for path in (checkout / "sweeps" / "spaces").glob("*.yaml"):
        cells = TrialCells(read(path), path.stem)
        assert cells.definition()["objective"] == {"metric": cells.metric, "split": "validation"}


def test_shipped_spaces_evaluate_under_their_tasks_label_as_it_is_evaluated(checkout: Path) -> None:
    for path in (checkout / "sweeps" / "spaces").glob("*.yaml"):
        shipped = read(path)
        assert "train.evaluation_batch_size" not in {*shipped.fixed, *shipped.parameters}, path.name


def test_a_trial_is_the_base_with_its_parameters(tmp_path: Path) -> None:
    cells = TrialCells(space(tmp_path), "sweep", ["train.batch_size=8"])
    spec = cells.spec({"train.learning_rate": 1.2345678901234567e-05 * 100, "method.expire_span.max_span": 48})
    assert spec.train["learning_rate"] == 1.2345678901234567e-05 * 100, "with all its digits"
    assert spec.method_settings["max_span"] == 48
    assert (spec.train["steps"], spec.train["batch_size"], spec.train["block_length"]) == (100, 8, 64)
    assert (spec.seed, spec.preset, spec.method) == (0, "", "expire_span"), "it is no cell of its base any more"
    assert (cells.metric, cells.higher_is_better) == ("bpb", False)


def test_a_base_may_stand_in_the_file(tmp_path: Path) -> None:
    settings = {"threads": 2, "tasks": {"enwik8": {"train": {"steps": 7}, "methods": {"expire_span": {"ramp": 8}}}}}
    spec = TrialCells(space(tmp_path, preset=None, settings=settings, set=None), "sweep").study.cells[0]
    assert (spec.train["steps"], spec.method_settings["ramp"], spec.threads) == (7, 8, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parmeters": {}}, r"parmeters.*no such key.*Did you mean parameters"),
        ({"about": None}, r"about.*not text"),
        ({"preset": "quik"}, r"preset.*quik.*Did you mean quick"),
        ({"preset": None}, r"preset, settings.*missing"),
        ({"settings": {}}, r"preset, settings.*both"),
        ({"seed": -1}, r"seed.*-1"),
        ({"parameters": {}}, r"parameters.*no setting"),
        ({"parameters": {"train.steps": {"low": 1, "hihg": 2}}}, r"train\.steps\.hihg.*Did you mean high"),
        ({"parameters": {"train.clip": {"low": "1e-4", "high": 1.0}}}, r"low.*'1e-4'.*write 1\.0e-4"),
        ({"parameters": {"train.clip": {"low": 2.0, "high": 1.0}}}, r"train\.clip.*smaller"),
        ({"parameters": {"train.clip": {"low": 0.0, "high": 1.0, "log": True}}}, r"clip\.log.*begins at 0"),
        (
            {"parameters": {"train.clip": {"low": 0.0, "high": 1.0, "step": 0.3}}},
            r"clip\.step.*last value would be 0\.9\.",
        ),
        ({"parameters": {"train.clip": {"choices": [0.0]}}}, r"choices.*two"),
        ({"parameters": {"train.clip": {"choices": [0.0, 1.0], "low": 1}}}, r"choices.*low"),
        ({"set": {"train.learning_rate": 1.0}}, r"train\.learning_rate.*under set and under parameters"),
        ({"pruner": {"kind": "hyperband"}}, r"pruner\.kind.*hyperband"),
        ({"pruner": {"warmup_step": 3}}, r"pruner\.warmup_step.*Did you mean pruner\.warmup_steps"),
        ({"sampler": {"seed": -3}}, r"sampler\.seed.*-3"),
        ({"objective": {"split": "test"}}, r"objective\.split.*test"),
    ],
)
def test_wrong_files_are_refused_by_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        space(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "assignments", "said"),
    [
        (
            {"parameters": {"train.learning_rat": {"low": 0.1, "high": 1.0}}},
            [],
            r"learning_rat .*in mine\.yaml.*no such",
        ),
        ({"set": {"train.stpes": 3}}, [], r"train\.stpes .*in mine\.yaml.*no such key"),
        ({"parameters": {"train.log_every": {"low": 0, "high": 9}}}, [], r"train\.log_every.*is 0"),
        ({"task": "enwik9"}, [], r"enwik9"),
        ({"method": "expire_spam"}, [], r"Did you mean expire_span"),
        ({"objective": {"metric": "accuracy"}}, [], r"objective\.metric.*bpb"),
        ({}, ["train.learning_rate=0.1"], r"train\.learning_rate.*--set.*is searched"),
        ({}, ["train.stpes=3"], r"train\.stpes .*in --set"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_a_trial(
    tmp_path: Path, changes: dict[str, Any], assignments: list[str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        TrialCells(space(tmp_path, **changes), "sweep", assignments)


def test_choices_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    mine = space(tmp_path)

    def parameters(trials: int, begin: int = 0) -> list[dict[str, Any]]:
        study = optuna.create_study()
        for _ in range(begin):
            study.ask()
        return [search.suggest(study.ask(), mine) for _ in range(trials)]

    six = parameters(6)
    assert len({each["train.learning_rate"] for each in six}) == 6
    assert parameters(3, begin=3) == six[3:], "a sweep that goes on chooses as one that was not interrupted"


def test_a_trial_that_is_taken_up_has_its_parameters_again(tmp_path: Path) -> None:
    study, mine = optuna.create_study(), space(tmp_path)
    trial = study.ask()
    before = search.suggest(trial, mine)
    assert search.suggest(optuna.Trial(study, trial._trial_id), mine) == before
