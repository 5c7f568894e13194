"""Random numbers named by what they are for."""

from __future__ import annotations

import pytest
import torch

from tasks.randomness import derive, seed_generators


def test_generators_are_seeded_as_pytorch_seeds_them() -> None:
    torch.manual_seed(derive(0, "step", 3))
    expected = torch.rand(5)
    torch.rand(7)
    seed_generators(derive(0, "step", 3))
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.gpu
def test_a_gpu_in_use_is_seeded_too() -> None:
    torch.manual_seed(3)
    expected = torch.rand(5, device="cuda")
    seed_generators(3)
    assert torch.equal(torch.rand(5, device="cuda"), expected)
