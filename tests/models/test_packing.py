"""What no later query will see leaves the state; what stays keeps its order, and each row stands at the right."""

from __future__ import annotations

import pytest
import torch

from models.packing import pack


def test_each_layer_keeps_what_stays_and_a_row_with_less_begins_with_zeros() -> None:
    memory = torch.arange(1.0, 13).view(2, 3, 2)  # rows 1 .. 6 and 7 .. 12
    age = torch.tensor([[3, 2, 1], [3, 2, 1]])
    first = {"memory": memory, "age": age, "alive": age > 1}
    state = [first, {"memory": memory}, {"memory": memory}]
    stays = torch.tensor([[True, False, True], [False, False, True]])
    pack(state, [stays, None, torch.zeros_like(stays)])
    assert state[0]["memory"].tolist() == [[[1, 2], [5, 6]], [[0, 0], [11, 12]]]
    assert state[0]["age"].tolist() == [[3, 1], [0, 1]]
    assert state[0]["alive"].tolist() == [[True, False], [False, False]]
    assert state[1]["memory"] is memory
    assert state[2]["memory"].shape == (2, 0, 2)


def test_a_tensor_without_the_slots_that_stay_is_refused() -> None:
    state = [{"memory": torch.ones(2, 3, 4), "mean": torch.ones(2, 1, 4)}]
    with pytest.raises(ValueError, match=r"`stays` is of \[2, 3\] slots, and the state's mean of \[2, 1, 4\]"):
        pack(state, [torch.ones(2, 3, dtype=torch.bool)])
