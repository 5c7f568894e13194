"""Parity with the authors' numbers, and that the check itself cannot be fooled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.parity import LIMIT, check_file, check_folder
from models.errors import SettingsError

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


def test_there_are_golden_files_for_every_method_that_has_authors_code() -> None:
    assert len(NAMES) == 11


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


def test_a_folder_without_golden_files_or_with_half_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no golden files"):
        check_folder(tmp_path)
    shutil.copy(GOLDEN / "expire_span.json", tmp_path)
    with pytest.raises(SettingsError, match=r"expire_span\.npz is missing"):
        check_folder(tmp_path)


def test_settings_that_are_damaged_or_unknown_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SettingsError, match=r"a\.json"):
        check_folder(tmp_path)
    raw = json.loads((GOLDEN / "expire_span.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**raw, "kind": "unheard"}))
    with pytest.raises(SettingsError, match="unheard"):
        check_folder(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({key: raw[key] for key in raw if key != "attn_lim"}))
    with pytest.raises(SettingsError, match="attn_lim"):
        check_folder(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(raw))
    assert "cannot be read" in check_folder(tmp_path)[0].problems[0]
