"""Reads golden files: what a model must be built like, and the arrays that its authors' code gave.

A golden file is a pair NAME.json (settings) and NAME.npz (tokens, parameters, and the outputs, losses and gradients
that the authors' code computed from them in float64). Whatever is wrong with one is said with its file and key.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.backbone import BackboneSettings
from models.errors import SettingsError


@dataclass(frozen=True)
class Golden:
    """What one golden file asks for: a method and the model around it.

    Args:
        layout: ``log_probs`` or ``nll_per_token``, what the outputs are stored as.
        names: whose names the parameters have: ``transformer-sequential`` or ``transformer-xl``.
        noise: u per block, or None.
    """

    method: str
    settings: dict[str, Any]
    backbone: BackboneSettings
    block_length: int
    vocabulary: int
    layout: str
    names: str
    noise: list[float] | None = None


class Fields:
    """A golden file's json, each value asked for with its type.

    Raises SettingsError, naming file and key, for a value that is missing or of another type.
    """

    def __init__(self, content: dict[str, Any], path: Path) -> None:
        self.content, self.path = content, path

    def refuse(self, key: str, problem: str, remedy: str) -> SettingsError:
        return SettingsError(key, problem, remedy, str(self.path))

    def value(self, key: str) -> Any:
        if key not in self.content:
            raise self.refuse(key, "is missing", "A golden file's json must have it.")
        return self.content[key]

    def text(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str):
            raise self.refuse(key, f"is {value!r}", "Give a string.")
        return value

    def flag(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.refuse(key, f"is {value!r}", "Give true or false.")
        return value

    def whole(self, key: str, least: int = 1) -> int:
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.refuse(key, f"is {value!r}", f"Give a whole number, at least {least}.")
        return value

    def number(self, key: str) -> float:
        value = self.value(key)
        if not _is_number(value):
            raise self.refuse(key, f"is {value!r}", "Give a number.")
        return float(value)

    def numbers(self, key: str) -> list[float] | None:
        value = self.value(key)
        if value is not None and not (isinstance(value, list) and all(map(_is_number, value))):
            raise self.refuse(key, f"is {value!r}", "Give a list of numbers, or null.")
        return value

    def off(self, key: str) -> None:
        value = self.value(key)
        if value is not False and not (_is_number(value) and value == 0):
            raise self.refuse(key, f"is {value!r}", "Parity is defined for files in which it is off.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_settings(path: Path) -> Golden:
    """The settings of a golden file's json. Raises SettingsError, naming file and key, for what cannot be read."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        remedy = "Replace the file by an undamaged copy."
        raise SettingsError(path.name, f"cannot be read as JSON: {error}", remedy, str(path)) from error
    if not isinstance(raw, dict):
        raise SettingsError(path.name, "is no JSON object", "Replace it by a golden file's settings.", str(path))
    fields = Fields(raw, path)
    kind = fields.text("kind")
    if kind not in READERS:
        raise fields.refuse("kind", f"{kind!r} is not known", f"Known: {', '.join(READERS)}.")
    return READERS[kind](fields)


def _first_family(fields: Fields, method: str, settings: dict[str, Any]) -> Golden:
    for key in ("feedback", "adapt_span_layer", "expire_span_layerdrop", "dropout"):
        fields.off(key)
    return Golden(
        method=method,
        settings=settings,
        backbone=BackboneSettings(
            layers=fields.whole("nlayers"),
            width=fields.whole("hid_sz"),
            feedforward=fields.whole("inner_hid_sz"),
            heads=fields.whole("nheads"),
            head_dim=fields.whole("head_dim"),
            pre_norm=fields.flag("pre_norm"),
        ),
        block_length=fields.whole("mem_sz"),
        vocabulary=fields.whole("vocab_sz"),
        layout="log_probs",
        names="transformer-sequential",
        noise=fields.numbers("noise"),
    )


def _transformer_xl(fields: Fields) -> Golden:
    return _first_family(fields, "transformer_xl", {"memory_length": fields.whole("attn_lim")})


def _adaptive_span(fields: Fields) -> Golden:
    settings = {
        "max_span": fields.whole("attn_lim"),
        "ramp": fields.whole("adapt_span_len"),
        "coefficient": fields.number("adapt_span_loss"),
        "trim_step": fields.whole("adapt_span_trim_step"),
    }
    return _first_family(fields, "adaptive_span", settings)


def _compressive(fields: Fields) -> Golden:
    settings = {
        "memory_length": fields.whole("attn_lim"),
        "compress_size": fields.whole("compress_size"),
        "rate": fields.whole("compress_rate"),
    }
    return _first_family(fields, "compressive", settings)


def _expire_span(fields: Fields) -> Golden:
    # Their expire_span_init_percentage only sets a parameter's first value, and all parameters are copied.
    settings = {
        "max_span": fields.whole("attn_lim"),
        "ramp": fields.whole("expire_span_ramp"),
        "coefficient": fields.number("expire_span_loss"),
        "pre_div": fields.number("expire_span_pre_div"),
        "noisy": fields.flag("expire_span_noisy"),
    }
    golden = _first_family(fields, "expire_span", settings)
    if settings["noisy"] and golden.noise is None:
        raise fields.refuse("noise", "is null while expire_span_noisy is true", "Give u for each block.")
    return golden


def _dai(fields: Fields) -> Golden:
    for key in ("dropout", "dropatt", "ext_len", "attn_type"):  # off unless given; each changes the mathematics
        if key in fields.content:
            fields.off(key)
    return Golden(
        method="transformer_xl",
        settings={
            "memory_length": fields.whole("mem_len"),
            "positions": "sinusoidal",
            "same_length": fields.flag("same_length"),
            "clamp_len": max(fields.whole("clamp_len", least=-1), 0),
            "tie_output": fields.flag("tie_weight"),
        },
        backbone=BackboneSettings(
            layers=fields.whole("n_layer"),
            width=fields.whole("d_model"),
            feedforward=fields.whole("d_inner"),
            heads=fields.whole("n_head"),
            head_dim=fields.whole("d_head"),
            pre_norm=fields.flag("pre_lnorm"),
        ),
        block_length=fields.whole("tgt_len"),
        vocabulary=fields.whole("vocab"),
        layout="nll_per_token",
        names="transformer-xl",
    )


READERS = {
    "xl": _transformer_xl,
    "adapt": _adaptive_span,
    "comp": _compressive,
    "exp": _expire_span,
    "transformer_xl_dai2019": _dai,
}

# What a file must hold beside tokens, parameters and gradients; the outputs come first.
REQUIRED = {"log_probs": ("log_probs", "nll", "aux_loss"), "nll_per_token": ("nll_per_token",)}


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a golden file's npz: tokens as whole numbers, the rest in float64. Raises SettingsError."""
    remedy = "Replace the file by an undamaged copy."
    try:
        with path.open("rb") as stream:
            file = np.load(stream)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise SettingsError(path.name, "cannot be read: it is one array, no npz", remedy, str(path))
            arrays = {name: file[name] for name in file.files}
    except SettingsError:
        raise
    except Exception as error:  # of a dozen kinds: what zipfile, zlib, ast and tokenize raise at damaged bytes
        raise SettingsError(path.name, f"cannot be read: {error}", remedy, str(path)) from error
    tensors = {}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in ("iu" if name == "tokens" else "iuf"):
            kind = "whole numbers" if name == "tokens" else "numbers"
            raise SettingsError(name, f"is no array of {kind}", remedy, str(path))
        tensors[name] = torch.from_numpy(array.astype(np.int64 if name == "tokens" else np.float64))
    return tensors


def incomplete(golden: Golden, arrays: dict[str, Tensor]) -> list[str]:
    """What keeps a file from being computed: arrays that are missing, tokens or noise for fewer blocks than outputs."""
    missing = [name for name in ("tokens", *REQUIRED[golden.layout]) if name not in arrays]
    if missing:
        return [f"{name} is not in the file" for name in missing]
    problems = []
    tokens, outputs = arrays["tokens"], arrays[golden.layout]
    blocks = outputs.shape[0] if outputs.dim() else 0
    if blocks < 1:
        problems.append(f"{golden.layout} holds no blocks")
    needed = blocks * golden.block_length + 1
    if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] < needed:
        problems.append(f"tokens have shape {list(tokens.shape)}; {blocks} blocks need rows of {needed}")
    elif not 0 <= int(tokens.min()) <= int(tokens.max()) < golden.vocabulary:
        problems.append(f"tokens are not all in [0, {golden.vocabulary})")
    if golden.noise is not None and len(golden.noise) < blocks:
        problems.append(f"noise holds {len(golden.noise)} numbers for {blocks} blocks")
    return problems
