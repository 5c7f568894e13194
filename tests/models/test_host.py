"""On a GPU each reading by the host waits for all that is queued there: no layer of the reference reads for itself.

The tensors are PyTorch's fake ones, which have shapes and no values: whoever tries to read one, fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from models.host import read_together
from models.registry import METHODS, load_file

toy: Any = load_file(Path(__file__).with_name("toy_models.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")

READERS = ("adaptive_span", "expire_span")
"""Those whose state's length is a number that the host must know."""
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in METHODS.names()] + [
    ("transformer_xl", {"positions": "sinusoidal"}),
    ("full_attention", {"memory": "none"}),
    ("expire_span", {"noisy": True, "layer_drop": 0.5}),
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [pytest.param(name, settings, marks=methods.slow_unless(name in READERS)) for name, settings in CASES],
)
def test_a_model_reads_at_most_once_per_block_however_many_layers(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[int] = []

    def told(numbers: Sequence[Tensor | None]) -> list[tuple[float, ...] | None]:
        """Small numbers: ratios of a span, slots that stay."""
        asked = [tensor for tensor in numbers if tensor is not None]
        readings.extend([len(asked)] if asked else [])
        values = [0.5 if tensor.is_floating_point() else 3 for tensor in asked for _ in tensor]
        known = iter(values)
        return [None if tensor is None else tuple(next(known) for _ in tensor) for tensor in numbers]

    for user in ("backbone", "packing"):
        monkeypatch.setattr(f"models.{user}.read_together", told)
    with FakeTensorMode():
        model = toy.make(name, settings, layers=3, pre_norm=True).train()
        state = model.init_state(2)
        for block in range(1, 4):
            output = model(torch.zeros(2, toy.T, dtype=torch.long), state, randomness=0.5)
            (output.y.sum() + output.aux_loss).backward()
            state = output.state
            assert len(readings) <= block
            assert set(readings) <= {3}
        for caching in (False, True):
            with torch.no_grad():
                model.eval()(torch.zeros(2, 1, dtype=torch.long), state, caching=caching)
        assert len(readings) <= block + 2


def test_one_reading_gives_every_layer_its_numbers() -> None:
    numbers = [torch.tensor([1.5, 2.0]), None, torch.tensor([0.25])]
    assert read_together(numbers) == [(1.5, 2.0), None, (0.25,)]
    assert read_together([None, None]) == [None, None]
    assert read_together([torch.tensor([2**40 + 1])]) == [(2**40 + 1,)]
