"""Worlds for a reader: an episode drawn as text; what scripted policies score, and how fast worlds step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tasks.worlds import MOVE_NAMES, Worlds, walked

_WORLDS, _EPISODES = 1024, 16_384


def show(worlds: Worlds, seed: int, policy: Callable[[Worlds], Tensor]) -> None:
    """Prints the first world after each step of an episode."""
    worlds.reset(seed)
    print(worlds.drawn())
    while not bool(worlds.ended[0]):
        action = policy(worlds)
        worlds.step(action)
        print(f"\n{MOVE_NAMES[int(action[0])]}\n{worlds.drawn()}")


def print_statistics(
    new_worlds: Callable[[int, int], Worlds], seed: int, metric: str, worth: Callable[[Any], Tensor]
) -> None:
    """Prints what 16,384 episodes are worth to scripted policies, and how fast 1,024 worlds step.

    Args:
        new_worlds: makes worlds, from how many and the first one's number.
        metric: what `worth` gives [B] of worlds that have ended, in words.
    """
    draws = torch.Generator().manual_seed(seed)
    policies: dict[str, Callable[[Worlds], Tensor]] = {
        "one who knows all": lambda here: here.oracle(here.get_state()),
        "the best without memory": lambda here: here.reactive(draws),
        "any action": lambda here: here.chance(draws),
    }
    rows = []
    for who, policy in policies.items():
        worlds = walked(new_worlds(_EPISODES, 0), seed, policy)
        value = worth(worlds).double()
        error = float(value.std()) / len(value) ** 0.5
        rows.append((f"{metric}, {who}", f"{float(value.mean()):.3f} +- {error:.3f}, {worlds.time} steps at the most"))
    rows.append(("steps until the horizon", f"{worlds.horizon:,}"))
    rows.append(("steps of a world per second, 1,024 worlds, one core", f"{speed(new_worlds(_WORLDS, 0)):,.0f}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def speed(worlds: Worlds, seconds: float = 2.0) -> float:
    """Steps of single worlds per second of processor time; those that have ended count too."""
    threads, steps = torch.get_num_threads(), 0
    torch.set_num_threads(1)
    try:
        actions = torch.randint(worlds.actions, (worlds.horizon, worlds.count), generator=torch.Generator())
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            worlds.reset(steps)
            for action in actions:
                worlds.step(action)
            steps += len(actions)
        return steps * worlds.count / (time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
