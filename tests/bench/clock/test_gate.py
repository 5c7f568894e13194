"""What computes something else gets no time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.clock import gate
from bench.clock.gate import ParityMissed, check
from bench.plugins import restore_plugins
from models.errors import SettingsError
from models.expire_span import Method as ExpireSpan
from models.registry import METHODS, load_file

tiny = load_file(Path(__file__).with_name("tiny_cells.py"))
CPU = torch.device("cpu")
COUNTS = {"adaptive_span": 2, "compressive": 2, "expire_span": 3, "transformer_xl": 4}


def settings(method: str) -> object:
    return METHODS.load(method).Settings(**tiny.METHOD_SETTINGS[method])


@pytest.mark.parametrize("method", COUNTS)
def test_a_method_with_golden_files_is_checked_against_all_of_them(method: str) -> None:
    assert check(method, "reference", settings(method), 8, CPU) == f"{COUNTS[method]} golden files"


def test_a_reference_without_golden_files_says_that_it_is_one() -> None:
    assert check("full_attention", "reference", settings("full_attention"), 8, CPU) == "it is the reference"


def replaced(cls: type, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    original = getattr(cls, name)
    return lambda self, *given, **named: change(original(self, *given, **named))


def test_a_method_that_is_off_by_a_hair_misses_its_golden_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExpireSpan, "spans", replaced(ExpireSpan, "spans", lambda spans: spans * (1 + 1e-6)))
    with pytest.raises(ParityMissed, match=r"expire_span \(reference\) on cpu misses expire_span: .*differs by"):
        check("expire_span", "reference", settings("expire_span"), 8, CPU)


def test_every_golden_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in gate.GOLDEN.glob("transformer_xl_*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(gate, "GOLDEN", tmp_path)
    last = tmp_path / "transformer_xl_prenorm.npz"
    with np.load(last) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["nll"] = arrays["nll"] * (1 + 1e-6)
    np.savez(last, **arrays)
    with pytest.raises(ParityMissed, match="misses transformer_xl_prenorm: nll differs"):
        check("transformer_xl", "reference", settings("transformer_xl"), 8, CPU)


@pytest.mark.parametrize("method", [*COUNTS, "full_attention"])
def test_a_fast_impl_is_compared_with_the_reference_too(method: str) -> None:
    assert check(method, "fast", settings(method), 8, CPU).endswith("the reference on the CPU")


def test_what_is_right_in_training_and_wrong_with_caches_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    from models import heads

    original = heads.Heads.grown

    def grown(self: heads.Heads, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = original(self, *given)
        return key, value.roll(1, dims=1)

    monkeypatch.setattr(heads.Heads, "grown", grown)
    with pytest.raises(ParityMissed, match="outputs of block 0 with cached keys and values"):
        check("transformer_xl", "fast", settings("transformer_xl"), 8, CPU)


def test_a_golden_file_that_cannot_be_read_lets_nobody_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "GOLDEN", tmp_path)
    (tmp_path / "transformer_xl_postnorm.json").write_text("{")
    with pytest.raises(SettingsError, match=r"transformer_xl_postnorm\.json"):
        check("transformer_xl", "reference", settings("transformer_xl"), 8, CPU)


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """The plugin's Settings."""
    monkeypatch.setattr(METHODS, "_plugins", {})
    restore_plugins([tiny.entry_of(tiny.write_probe(tmp_path))])
    found = METHODS.load("probe").Settings
    assert isinstance(found, type)
    return found


def test_another_impl_is_checked_against_the_reference_with_the_cells_settings(probe: type) -> None:
    assert check("probe", "fast", probe(), 8, CPU) == "the reference on the CPU"
    with pytest.raises(ParityMissed, match=r"probe \(fast\) on cpu differs from the reference in outputs of block 0"):
        check("probe", "fast", probe(fault=1e-6), 8, CPU)
    with pytest.raises(ParityMissed, match="differs"):
        check("probe", "fast", probe(fault=float("nan")), 8, CPU)


def test_an_impl_whose_gradients_alone_are_wrong_is_found(probe: type, monkeypatch: pytest.MonkeyPatch) -> None:
    module = METHODS.load("probe")

    def forward(self, x, state, context):  # type: ignore[no-untyped-def]
        mixed = module.Method.forward(self, x, state, context)
        return type(mixed)(mixed.y.detach() + 0 * mixed.y, mixed.state)

    monkeypatch.setattr(module.Fast, "forward", forward)
    with pytest.raises(ParityMissed, match=r"differs from the reference in the gradient of "):
        check("probe", "fast", probe(), 8, CPU)


@pytest.mark.parametrize("lacking", ["fast", "reference"])
def test_a_gradient_that_only_one_of_the_two_has_is_found(
    probe: type, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    module = METHODS.load("probe")

    class Frozen(module.Method):  # type: ignore[name-defined, misc]
        """The same, but nobody learns its scale."""

        def forward(self, x, state, context):  # type: ignore[no-untyped-def]
            self.scale.requires_grad_(False)
            return super().forward(x, state, context)

    monkeypatch.setattr(module, "mixer_class", lambda given, impl: Frozen if impl == lacking else module.Method)
    with pytest.raises(ParityMissed, match=r"gradient of blocks\.0\.mixer\.scale by inf"):
        check("probe", "fast", probe(), 8, CPU)


def test_the_check_leaves_random_numbers_as_they_were() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    gate._check_against_reference("transformer_xl", "reference", settings("transformer_xl"), 8, CPU)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("loss", ["attention_reconstruction", "auto_encoding"])
def test_a_loss_that_only_training_has_is_compared_too(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    from models import compressive

    chosen = compressive.Settings(8, 8, 2, compression="conv", compression_loss=loss)  # type: ignore[arg-type]
    assert check("compressive", "fast", chosen, 8, CPU).endswith("the reference on the CPU")
    monkeypatch.setattr(compressive.Fast, "compression_loss", lambda *given, **named: None)
    with pytest.raises(ParityMissed, match="auxiliary loss of block 0"):
        check("compressive", "fast", chosen, 8, CPU)


def test_gradients_are_taken_in_training_as_cudnn_demands_of_an_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = torch.nn.LSTM.forward, set()

    def watched(self: torch.nn.LSTM, *given: Any) -> Any:
        seen.add((self.training, torch.is_grad_enabled()))
        return forward(self, *given)

    monkeypatch.setattr(torch.nn.LSTM, "forward", watched)
    gate._check_against_reference("lstm", "reference", METHODS.load("lstm").Settings(), 8, CPU)
    assert seen == {(True, True), (False, False)}
