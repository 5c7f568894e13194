"""Parity with the authors' numbers, and that the check itself cannot be fooled."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.golden_files import read_settings
from bench.parity import LIMIT, check_file, check_folder
from models.adaptive_span import RESERVE
from models.errors import SettingsError

GOLDEN = Path(__file__).resolve().parents[2] / "models" / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


def test_there_is_a_golden_file_for_every_variant_that_has_authors_code() -> None:
    covered = set()
    for name in NAMES:
        golden = read_settings(GOLDEN / f"{name}.json")
        settings, longest = golden.settings, golden.settings.get("max_span", 0)
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            ratios = [arrays[key].max() for key in arrays.files if key.startswith("param/") and "size_ratio" in key]
        reach = max((math.ceil(ratio * longest + settings["ramp"]) for ratio in ratios), default=longest)
        left_out = (longest - reach) // settings.get("trim_step", 1) * settings.get("trim_step", 1)  # in every layer
        marks = {
            "sinusoidal": settings.get("positions") == "sinusoidal",
            "same length": settings.get("same_length", False),
            "clamped": settings.get("clamp_len", 0) > 0,
            "trimmed": left_out > 0,
            "cache cut": left_out > RESERVE,
            "pre_div": settings.get("pre_div", 1.0) != 1.0,
            "noisy": settings.get("noisy", False) and golden.noise is not None,
        }
        norm = "pre-norm" if golden.backbone.pre_norm else "post-norm"
        covered.add((golden.method, norm, *(mark for mark, here in marks.items() if here)))
    assert covered == {
        ("adaptive_span", "post-norm", "trimmed"),
        ("adaptive_span", "pre-norm", "trimmed", "cache cut"),
        ("compressive", "post-norm"),
        ("compressive", "pre-norm"),
        ("expire_span", "post-norm"),
        ("expire_span", "post-norm", "noisy"),
        ("expire_span", "pre-norm", "pre_div"),
        ("transformer_xl", "post-norm"),
        ("transformer_xl", "pre-norm"),
        ("transformer_xl", "post-norm", "sinusoidal"),
        ("transformer_xl", "post-norm", "sinusoidal", "same length", "clamped"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_outputs_losses_and_all_gradients_equal_the_authors(name: str) -> None:
    verdict = check_file(GOLDEN / f"{name}.json")
    assert verdict.problems == []
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        inputs = 1 + sum(key.startswith("param/") for key in arrays.files)  # tokens and parameters
        assert verdict.compared == len(arrays.files) - inputs
    assert max(verdict.worst_output, verdict.worst_gradient) < 1e-13


def altered(tmp_path: Path, name: str, change: dict[str, np.ndarray | None]) -> Path:
    """A copy of a golden file with arrays replaced, added, or (None) taken out."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    for key, value in change.items():
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value
    np.savez(tmp_path / f"{name}.npz", **arrays)
    shutil.copy(GOLDEN / f"{name}.json", tmp_path)
    return tmp_path / f"{name}.json"


def stored(name: str, key: str) -> np.ndarray:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return file[key].copy()


@pytest.mark.parametrize(
    ("key", "part"),
    [("aux_loss", "aux_loss"), ("grad/layers.1.attn.attn.expire_span.span_predictor.bias", "span_predictor")],
)
def test_a_number_that_is_off_by_a_hair_fails(tmp_path: Path, key: str, part: str) -> None:
    wrong = stored("expire_span", key)
    wrong.flat[0] *= 1 + 100 * LIMIT
    verdict = check_file(altered(tmp_path, "expire_span", {key: wrong}))
    assert not verdict.ok
    assert any(part in problem and "differs" in problem for problem in verdict.problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"something_new": np.zeros(3)}, "was not computed"),
        ({"grad/in_emb.weight": None}, "cannot be checked"),
        ({"param/in_emb.weight": None}, "is not in the file"),
        ({"param/in_emb.bias": np.zeros(3)}, "has no place"),
        ({"param/out.out_emb.bias": np.zeros(3)}, "3 elements"),
        ({"aux_loss": np.full(6, np.nan)}, "differs"),
        ({"nll": np.zeros(3)}, "differs"),
    ],
)
def test_an_array_that_is_missing_unused_or_of_another_shape_fails(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    verdict = check_file(altered(tmp_path, "transformer_xl_postnorm", change))
    assert not verdict.ok
    assert any(message in problem for problem in verdict.problems)


@pytest.mark.parametrize("name", ["expire_span", "transformer_xl_dai2019"])
def test_every_output_and_loss_must_be_in_the_file(tmp_path: Path, name: str) -> None:
    outputs = ["nll_per_token"] if "dai" in name else ["log_probs", "nll", "aux_loss"]
    for key in ["tokens", *outputs]:
        verdict = check_file(altered(tmp_path, name, {key: None}))
        assert verdict.problems == [f"{key} is not in the file"]


TOKENS = stored("expire_span", "tokens")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": TOKENS[:, :-1]}, "10 blocks need rows of 161"),
        ({"tokens": TOKENS[0]}, "10 blocks need rows of 161"),
        ({"tokens": TOKENS[:0]}, "10 blocks need rows of 161"),
        ({"tokens": TOKENS + 1}, "tokens are not all in [0, 40)"),
        ({"tokens": TOKENS - 1}, "tokens are not all in [0, 40)"),
        ({"tokens": TOKENS.astype(np.float64)}, "tokens (in "),
        ({"tokens": TOKENS.astype(str)}, "is no array of whole numbers"),
        ({"log_probs": np.float64(1)}, "log_probs holds no blocks"),
        ({"log_probs": np.zeros((0, 3, 16, 40))}, "log_probs holds no blocks"),
        ({"log_probs": stored("expire_span", "log_probs")[:5]}, "nll differs"),
        ({"aux_loss": np.array(["a"])}, "aux_loss (in "),
        ({"aux_loss": np.array([None])}, "Object arrays cannot be loaded"),
        ({"aux_loss": np.zeros(10, dtype=complex)}, "is no array of numbers"),
        ({"aux_loss": np.zeros(0)}, "aux_loss differs by inf"),
        ({"grad/in_emb.weight": np.zeros(3)}, "grad/in_emb.weight differs by inf"),
        ({"grad/in_emb.weight": np.zeros((40, 32), dtype=bool)}, "is no array of numbers"),
    ],
)
def test_arrays_that_are_short_or_of_another_type_fail(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    verdict = check_file(altered(tmp_path, "expire_span", change))
    assert not verdict.ok
    assert any(message in problem for problem in verdict.problems), verdict.problems


def with_settings(tmp_path: Path, name: str, change: dict[str, object]) -> Path:
    """A copy of a golden file with settings replaced, added, or (...) taken out."""
    raw = {**json.loads((GOLDEN / f"{name}.json").read_text()), **change}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}))
    shutil.copy(GOLDEN / f"{name}.npz", tmp_path)
    return path


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("expire_span", "kind", "unheard"),
        ("expire_span", "kind", ["exp"]),
        ("expire_span", "kind", ...),
        ("expire_span", "attn_lim", ...),
        ("expire_span", "attn_lim", "96"),
        ("expire_span", "attn_lim", 96.5),
        ("expire_span", "attn_lim", None),
        ("expire_span", "nlayers", True),
        ("expire_span", "nlayers", 0),
        ("expire_span", "mem_sz", -16),
        ("expire_span", "vocab_sz", 0),
        ("expire_span", "head_dim", None),
        ("expire_span", "pre_norm", 1),
        ("expire_span", "expire_span_ramp", [8]),
        ("expire_span", "expire_span_loss", "much"),
        ("expire_span", "expire_span_loss", math.nan),
        ("expire_span", "expire_span_pre_div", False),
        ("expire_span", "expire_span_noisy", "no"),
        ("expire_span", "noise", 0.5),
        ("expire_span", "noise", ["a"] * 10),
        ("expire_span_noisy", "noise", None),
        ("expire_span", "feedback", True),
        ("expire_span", "expire_span_layerdrop", 0.1),
        ("expire_span", "dropout", 0.1),
        ("expire_span", "dropout", None),
        ("adaptive_span", "adapt_span_layer", True),
        ("adaptive_span", "adapt_span_trim_step", 0),
        ("compressive_mean", "compress_rate", "4"),
        ("transformer_xl_dai2019", "dropout", 0.1),
        ("transformer_xl_dai2019", "dropatt", 0.1),
        ("transformer_xl_dai2019", "clamp_len", None),
        ("transformer_xl_dai2019", "same_length", "yes"),
    ],
)
def test_a_setting_that_is_missing_refused_or_of_another_type_fails_by_file_and_key(
    tmp_path: Path, name: str, key: str, value: object
) -> None:
    path = with_settings(tmp_path, name, {key: value})
    (problem,) = check_file(path).problems
    assert problem.startswith(f"{key} (in {path}): ")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("compressive_mean", {"compress_rate": 3}, "method.compressive.rate"),
        ("expire_span_noisy", {"noise": [0.5] * 7}, "noise holds 7 numbers for 8 blocks"),
    ],
)
def test_settings_that_do_not_go_together_fail(
    tmp_path: Path, name: str, change: dict[str, object], message: str
) -> None:
    (problem,) = check_file(with_settings(tmp_path, name, change)).problems
    assert message in problem


@pytest.mark.parametrize("change", [{"expire_span_init_percentage": 1.0}, {"expire_span_init_percentage": ...}])
def test_the_first_span_is_no_matter_as_all_parameters_are_copied(tmp_path: Path, change: dict[str, object]) -> None:
    assert check_file(with_settings(tmp_path, "expire_span", change)).ok


@pytest.mark.parametrize("value", [0, 0.0])
def test_dropout_that_is_off_may_stand_in_a_file_of_either_family(tmp_path: Path, value: float) -> None:
    for name in ("expire_span", "transformer_xl_dai2019"):
        assert check_file(with_settings(tmp_path, name, {"dropout": value})).ok


def test_a_folder_without_golden_files_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SettingsError, match="no golden files"):
            check_folder(folder)
        assert main(["parity", str(folder)]) == 2
        assert "no golden files" in capsys.readouterr().err


def test_an_impl_that_a_method_does_not_have_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOLDEN), "--impl", "unheard"]) == 2
    assert "no impl 'unheard'" in capsys.readouterr().err


def damage(path: Path) -> None:
    """Flips bytes in the middle."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(bytes(content))


def in_directory(path: Path, offset: int, value: int) -> None:
    """Sets a byte of the first entry of the zip's directory."""
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(bytes(content))


def store_header_that_is_no_literal(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        header = b"{'descr': '<f8', (\n"
        file.writestr("tokens.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "npz gone": lambda path: path.with_suffix(".npz").unlink(),
    "npz empty": lambda path: path.with_suffix(".npz").write_bytes(b""),
    "npz cut": lambda path: path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:5000]),
    "npz damaged": lambda path: damage(path.with_suffix(".npz")),
    "npz of no known version": lambda path: in_directory(path.with_suffix(".npz"), 6, 255),
    "npz said to be encrypted": lambda path: in_directory(path.with_suffix(".npz"), 8, 1),
    "npz with a header of no meaning": lambda path: store_header_that_is_no_literal(path.with_suffix(".npz")),
    "npz text": lambda path: path.with_suffix(".npz").write_text("arrays"),
    "json gone": lambda path: path.unlink(),
    "json cut": lambda path: path.write_text("{"),
    "json binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "json list": lambda path: path.write_text("[1, 2]"),
    "json null": lambda path: path.write_text("null"),
    "json deep": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_fails_by_name(tmp_path: Path, name: str) -> None:
    path = with_settings(tmp_path, "transformer_xl_postnorm", {})
    DAMAGES[name](path)
    (verdict,) = check_folder(tmp_path)
    assert not verdict.ok
    assert verdict.compared == 0
    (problem,) = verdict.problems
    assert f"transformer_xl_postnorm.{name.split()[0]}" in problem


def test_an_array_alone_under_the_name_of_an_npz_fails(tmp_path: Path) -> None:
    path = with_settings(tmp_path, "expire_span", {})
    with path.with_suffix(".npz").open("wb") as file:
        np.save(file, TOKENS)
    (problem,) = check_file(path).problems
    assert problem.startswith("expire_span.npz (in ")


def test_a_damaged_file_does_not_keep_the_others_from_being_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("compressive_mean", "transformer_xl_dai2019"):
        with_settings(tmp_path, name, {})
    (tmp_path / "adaptive_span.json").write_text("[]")
    shutil.copy(GOLDEN / "expire_span.json", tmp_path)
    assert main(["parity", str(tmp_path)]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["passed"], said["failed"]) == (2, 2)
    assert {file["name"]: file["ok"] for file in said["files"]} == {
        "adaptive_span": False,
        "compressive_mean": True,
        "expire_span": False,
        "transformer_xl_dai2019": True,
    }
    assert "adaptive_span.json" in said["files"][0]["problems"][0]


def test_whole_files_are_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_settings(tmp_path, "transformer_xl_dai2019", {})
    assert main(["parity", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["passed"] == 1
