"""The acting tasks' worlds as Gymnasium knows environments: a batch as `VectorEnv`, one as `Env`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tasks.worlds import Worlds

Observation = NDArray[np.int64]


def _spaces(worlds: Worlds) -> tuple[gym.Space[Any], gym.Space[Any]]:
    shape = worlds.observation_shape
    return gym.spaces.MultiDiscrete(np.array(worlds.symbols).reshape(shape)), gym.spaces.Discrete(worlds.actions)


class ManyWorlds(VectorEnv[Any, Any, Any]):
    """A batch of worlds in lockstep.

    Nothing is reset by itself: a world that has ended idles with reward 0, until all are reset together.

    Args:
        worlds: the batch.
    """

    def __init__(self, worlds: Worlds) -> None:
        self.worlds = worlds
        self.num_envs = worlds.count
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space, self.single_action_space = _spaces(worlds)
        self.observation_space = batch_space(self.single_observation_space, worlds.count)
        self.action_space = batch_space(self.single_action_space, worlds.count)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode in all worlds. Raises ValueError for a list of seeds, or a mask that leaves some out."""
        if isinstance(seed, list):
            raise ValueError("one seed begins all worlds: each draws from it and from its number")
        mask = (options or {}).get("reset_mask")
        if mask is not None and not np.all(mask):
            raise ValueError("worlds run in lockstep: all are reset together, or none")
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(2**63)) if seed is None else seed % 2**63
        return self.worlds.reset(chosen).cpu().numpy(), {}

    def step(
        self, actions: Any
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """All worlds act. At the horizon, those that have not ended are truncated.

        Raises ValueError for what is no action of every world.
        """
        given = np.asarray(actions)
        if not (np.issubdtype(given.dtype, np.integer) and self.action_space.contains(given)):
            raise ValueError(f"{actions!r} is not in {self.action_space}")
        took = torch.as_tensor(given, dtype=torch.long, device=self.worlds.device)
        step = self.worlds.step(took)
        truncated = self.worlds.truncated.cpu().numpy()
        ended = step.ended.cpu().numpy()
        return step.observation.cpu().numpy(), step.reward.double().cpu().numpy(), ended & ~truncated, truncated, {}

    def get_state(self) -> dict[str, NDArray[Any]]:
        """The full Markov state of all worlds."""
        return {name: tensor.cpu().numpy() for name, tensor in self.worlds.get_state().items()}


class OneWorld(gym.Env[Observation, np.int64]):
    """One world of a batch, by itself.

    Args:
        make: builds a batch from (count, first).
        number: which world of a batch this one is.
        render_mode: ``ansi``, in which `render` gives the world as text, or None. Raises ValueError for another.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"]}  # noqa: RUF012  # Gymnasium's own name and type

    def __init__(self, make: Callable[[int, int], Worlds], number: int = 0, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}; give ansi, or None")
        self.render_mode = render_mode
        self.worlds = make(1, number)
        self.observation_space, self.action_space = _spaces(self.worlds)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(2**63)) if seed is None else seed % 2**63
        return self.worlds.reset(chosen)[0].cpu().numpy(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Raises ValueError for what is no action, and RuntimeError where the episode has ended."""
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        if self.worlds.time >= 0 and bool(self.worlds.ended[0]):
            raise RuntimeError("the episode has ended; reset it")
        step = self.worlds.step(torch.tensor([int(action)], device=self.worlds.device))
        truncated = bool(self.worlds.truncated[0])
        return (
            step.observation[0].cpu().numpy(),
            float(step.reward[0]),
            bool(step.ended[0]) and not truncated,
            truncated,
            {},
        )

    def render(self) -> str | None:
        """The world as text, see `Worlds.drawn`; None without a render mode. Raises RuntimeError before a reset."""
        if self.render_mode is None:
            return None
        if self.worlds.time < 0:
            raise RuntimeError("no episode has begun; reset the world to see it")
        return self.worlds.drawn()

    def get_state(self) -> dict[str, NDArray[Any]]:
        """The full Markov state."""
        return {name: tensor[0].cpu().numpy() for name, tensor in self.worlds.get_state().items()}
