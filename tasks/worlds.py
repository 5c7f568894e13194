"""What the acting tasks hand to training: many worlds in lockstep, in tensors on the model's device.

All worlds begin together; one that has ended idles, masked, until the horizon. So memory is reset for the whole batch
at once. A world's randomness comes from (seed, its number) alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.world_draws import world_keys


@dataclass(frozen=True)
class Step:
    """What a step of all worlds gave.

    Args:
        observation: [B, ...] what the agents see now; of a world that has ended, what it saw last.
        reward: [B] float.
        ended: [B] bool, worlds that have ended, in this step or before.
    """

    observation: Tensor
    reward: Tensor
    ended: Tensor


class Worlds(ABC):
    """A batch of worlds.

    Args:
        count: B; first: the number of the first world.
        device: where the tensors live.
    """

    horizon: int
    """Steps after which every world ends."""
    actions: int
    """How many actions there are."""
    observation_shape: tuple[int, ...]
    """Of one world's observation, whole numbers."""
    state: tuple[str, ...]
    """Names of the tensors [B, ...] that, with the time and who has ended, are the full Markov state."""
    symbols: tuple[int, ...]
    """For each place of a (flattened) observation, how many different numbers may stand there."""

    def __init__(self, count: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        self.count, self.first, self.device = count, first, torch.device(device)
        self.time = -1  # no episode has begun
        self.ended = torch.ones(count, dtype=torch.bool, device=self.device)
        self.truncated = torch.zeros_like(self.ended)  # that had not ended by themselves at the horizon

    def reset(self, seed: int) -> Tensor:
        """Begins an episode in every world, drawn from the seed. Returns the observation."""
        self.time = 0
        self.ended = torch.zeros(self.count, dtype=torch.bool, device=self.device)
        self.truncated = torch.zeros_like(self.ended)
        self.begin(world_keys(seed, self.first, self.count, self.device))
        return self.observe()

    def step(self, action: Tensor) -> Step:
        """All worlds take their action [B]; those that have ended stay as they are, with reward 0.

        Raises RuntimeError where no episode has begun, or all worlds have reached the horizon.
        """
        if not 0 <= self.time < self.horizon:
            raise RuntimeError(f"an episode has {self.horizon} steps; reset the worlds to begin one")
        reward, ends = self.act(action, ~self.ended)
        self.time += 1
        self.ended = self.ended | ends
        if self.time == self.horizon:
            self.truncated, self.ended = ~self.ended, torch.ones_like(self.ended)
        return Step(self.observe(), reward, self.ended)

    @abstractmethod
    def begin(self, key: Tensor) -> None:
        """Draws an episode for each key [B]."""

    @abstractmethod
    def act(self, action: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Moves the worlds that are alive [B]. Returns rewards [B] (0 for the others) and which of them end now."""

    @abstractmethod
    def observe(self) -> Tensor:
        """What the agents see: whole numbers [B, *observation_shape]."""

    def get_state(self) -> dict[str, Tensor]:
        """The full Markov state, each tensor [B, ...]; copies."""
        time = torch.full((self.count,), self.time, device=self.device)
        return {"time": time, "ended": self.ended.clone(), **{name: getattr(self, name).clone() for name in self.state}}

    @abstractmethod
    def drawn(self) -> str:
        """The first world as text."""

    @abstractmethod
    def oracle(self, state: Mapping[str, Tensor]) -> Tensor:
        """Actions [B] of one who knows the full state that `get_state` gives."""

    @abstractmethod
    def reactive(self, draws: torch.Generator) -> Tensor:
        """Actions [B] of a best policy without memory."""

    def chance(self, draws: torch.Generator) -> Tensor:
        """Actions [B], each as likely as any other."""
        return torch.randint(self.actions, (self.count,), generator=draws).to(self.device)


def walked(worlds: Worlds, seed: int, policy: Callable[[Worlds], Tensor]) -> Worlds:
    """The worlds after a scripted policy has acted until all have ended."""
    worlds.reset(seed)
    while not bool(worlds.ended.all()):
        worlds.step(policy(worlds))
    return worlds


MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Row and column by action: up, down, left, right."""
MOVE_NAMES = ("up", "down", "left", "right")
