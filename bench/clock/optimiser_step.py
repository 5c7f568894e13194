"""What follows a training step's gradients: loss scale, clipping, optimiser, as Lightning and the modules do it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from tasks.train_settings import TrainSettings, build_optimiser


class OptimiserStep:
    """Takes gradients in and moves weights.

    Args:
        model: on its device; train: optimiser and clipping; scaled: whether the loss is scaled (16-mixed).
    """

    def __init__(self, model: Backbone, train: TrainSettings, device: torch.device, scaled: bool) -> None:
        self.model, self.clip = model, train.clip
        self.optimiser = build_optimiser(train, model.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)

    def backward(self, loss: Tensor) -> None:
        """Adds a scalar loss's gradients up."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Clips, moves the weights, and forgets the gradients."""
        self.scaler.unscale_(self.optimiser)
        if self.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()
        self.model.after_step()

    def static_bytes(self) -> int:
        """Of all weights, as many gradients, and the optimiser."""
        optimiser = [value for state in self.optimiser.state.values() for value in state.values()]
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return weight_bytes(self.model) + total_bytes(learned) + total_bytes(filter(torch.is_tensor, optimiser))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers."""
    return total_bytes([*model.parameters(), *model.buffers()])


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
