"""Values as written become typed settings, or an error that names key, place, value, type and the nearest key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from bench.settings import Given, TrainerKeys, as_json, build, keys, located
from models.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """Settings of a method made up for these tests."""

    max_span: int = 512
    """L, the longest span."""
    rate: float = 0.1
    """Share of something."""
    memory: Literal["all", "none"] = "all"
    """What is kept."""
    limit: int | None = None
    """Most slots, or null."""
    path: str | None = None
    """A file."""
    name: str = "x"
    """A name."""
    noisy: bool = False
    """Noise."""
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    """Some sizes."""

    def __post_init__(self) -> None:
        if self.max_span < 1:
            raise SettingsError("method.mine.max_span", f"is {self.max_span}", "Give at least 1.")
        if self.rate > 1:
            raise ValueError("the rate is a share")


@dataclass(frozen=True)
class Needs:
    """Has a field without default."""

    size: int
    """How much."""


def make(source: str = "mine.yaml", **values: Any) -> Settings:
    made = build(Settings, "method.mine", {key: Given(value, source) for key, value in values.items()})
    assert isinstance(made, Settings)
    return made


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("max_span", "5", 5),
        ("max_span", 5, 5),
        ("rate", "2e-3", 0.002),  # YAML 1.1 takes this for text
        ("rate", "1", 1.0),
        ("rate", 0, 0.0),
        ("memory", "none", "none"),
        ("limit", "null", None),
        ("limit", None, None),
        ("limit", "3", 3),
        ("path", "3", "3"),
        ("name", "null", "null"),
        ("noisy", "true", True),
        ("noisy", False, False),
        ("sizes", "[3, 4]", [3, 4]),
    ],
)
def test_value_gets_its_fields_type(key: str, written: Any, value: Any) -> None:
    got = getattr(make(**{key: written}), key)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "written", "expected"),
    [
        ("max_span", "many", "a whole number (int)"),
        ("max_span", 5.0, "a whole number (int)"),
        ("max_span", True, "a whole number (int)"),
        ("max_span", None, "a whole number (int)"),
        ("max_span", "null", "a whole number (int)"),
        ("rate", "half", "a number (float)"),
        ("rate", True, "a number (float)"),
        ("rate", None, "a number (float)"),
        ("memory", "some", "one of all, none"),
        ("memory", None, "one of all, none"),
        ("limit", "x", "a whole number (int) or null"),
        ("path", 3, "text (str) or null"),
        ("name", None, "text (str)"),
        ("noisy", 1, "true or false (bool)"),
        ("sizes", ["a"], "list[int]"),
    ],
)
def test_wrong_type_names_key_value_type_and_place(key: str, written: Any, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make(**{key: written})
    message = str(caught.value)
    assert message.startswith(f"method.mine.{key} (in mine.yaml): {written!r} is not {expected}.")


@pytest.mark.parametrize("written", [".inf", float("inf"), float("nan"), ".nan"])
def test_number_that_is_not_finite_is_refused(written: Any) -> None:
    with pytest.raises(SettingsError, match=r"method\.mine\.rate \(in mine\.yaml\): .*is not"):
        make(rate=written)


def test_unknown_key_names_the_place_and_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        make("--set", max_spam=3)
    message = str(caught.value)
    assert message.startswith(
        "method.mine.max_spam (in --set): there is no such key. Did you mean method.mine.max_span?"
    )


def test_missing_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"task\.mine\.size: is not given and has no default"):
        build(Needs, "task.mine", {})
    assert build(Needs, "task.mine", {"size": Given("3", "--set")}) == Needs(3)


def test_error_of_the_dataclass_learns_where_the_value_was_written() -> None:
    with pytest.raises(SettingsError, match=r"method\.mine\.max_span \(in mine\.yaml\): is 0\. Give at least 1\."):
        make(max_span=0)


def test_value_error_of_the_dataclass_is_an_error_of_its_settings() -> None:
    with pytest.raises(SettingsError, match=r"method\.mine: the rate is a share"):
        make(rate=2)


def test_other_errors_are_not_taken_for_wrong_settings() -> None:
    with pytest.raises(TypeError), located("method.mine", {}):
        raise TypeError("a mistake in the code")


def test_json_has_every_field() -> None:
    assert as_json(make(max_span=3)) == {
        "max_span": 3,
        "rate": 0.1,
        "memory": "all",
        "limit": None,
        "path": None,
        "name": "x",
        "noisy": False,
        "sizes": [1, 2],
    }


def test_field_docstrings_are_the_help() -> None:
    described = {key.key: key for key in keys(Settings, "method.mine")}
    assert described["method.mine.max_span"].help == "L, the longest span."
    assert described["method.mine.memory"].type == "one of all, none"
    assert described["method.mine.sizes"].default == [1, 2]


def test_trainer_keys_are_those_of_the_spec_and_the_precision() -> None:
    described = {key.key: key for key in keys(TrainerKeys, "trainer")}
    assert described["trainer.precision"].help
    assert described["trainer.devices"].help.startswith("Devices per node")
    given = {"accelerator": Given("cpu", "--set"), "precision": Given("bf16-mixed", "--set")}
    made = build(TrainerKeys, "trainer", given)
    assert (made.accelerator, made.precision) == ("cpu", "bf16-mixed")
    with pytest.raises(SettingsError, match=r"trainer\.devices \(in --set\): is auto, .* one device"):
        build(TrainerKeys, "trainer", {"devices": Given("auto", "--set")})
