"""Advantage actor-critic with generalised advantage estimation (Mnih et al. 2016; Schulman et al. 2016, equation 16).

    delta_t = r_t + gamma V_{t+1} - V_t,    A_t = sum_k (gamma lambda)^k delta_{t+k}
    loss = mean over steps of  -log pi(a_t) A_t  +  c_v (V_t - R_t)^2  -  c_e H(pi_t),    R_t = A_t + V_t
           + the method's auxiliary loss per token, over all steps, those of worlds that have ended too

The value after an episode's end, and after the horizon, is 0. Advantages are normalised over the batch's steps. Actions
are taken one step at a time, memory carried; learning reads the same steps again in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone, Output
from models.errors import SettingsError
from models.state import State
from tasks.train_settings import TrainSettings
from tasks.worlds import Worlds


@dataclass(frozen=True)
class LearningSettings:
    """How a policy is learned; an acting task's settings begin with these."""

    discount: float = 0.98
    """gamma."""
    trace: float = 0.95
    """lambda of generalised advantage estimation."""
    value_weight: float = 0.5
    """c_v, the weight of the value's loss."""
    entropy: float = 0.02
    """c_e, the weight of the entropy bonus, at the beginning; it falls linearly to a tenth at the last step."""

    def entropy_at(self, step: int, steps: int) -> float:
        """c_e of the step that follows `step` finished ones out of `steps`."""
        return self.entropy * (1 - 0.9 * min(step / max(steps - 1, 1), 1.0))


def check_learning(key: str, settings: LearningSettings, train: TrainSettings) -> None:
    """Raises SettingsError for settings of an acting task's learning that cannot work."""
    if train.accumulation != 1:
        problem = f"is {train.accumulation}: a step of {key} learns from all its worlds together, block by block"
        raise SettingsError("train.accumulation", problem, "Give 1, and fewer worlds in train.batch_size if need be.")
    for name in ("discount", "trace"):
        value = getattr(settings, name)
        if not 0 < value <= 1:
            raise SettingsError(f"{key}.{name}", f"is {value}", "Give a number above 0, at most 1.")
    for name in ("value_weight", "entropy"):
        value = getattr(settings, name)
        if not value >= 0:
            raise SettingsError(f"{key}.{name}", f"is {value}", "Give 0 or more.")


@dataclass(frozen=True)
class Played:
    """An episode of every world, H steps of B worlds.

    Args:
        observation: [B, H, ...]; action: [B, H].
        log_probability: [B, H] of the actions, when they were taken; value: [B, H].
        reward: [B, H].
        alive: [B, H] bool, worlds that had not ended before the step.
        state: memory after the last step.
        statistics: what the layers say of themselves, mean over steps; worlds that have ended count too.
    """

    observation: Tensor
    action: Tensor
    log_probability: Tensor
    value: Tensor
    reward: Tensor
    alive: Tensor
    state: State
    statistics: dict[str, Tensor]


@torch.no_grad()
def play(
    model: Backbone,
    worlds: Worlds,
    seed: int,
    draws: torch.Generator | None,
    edit_spans: Callable[[int, Tensor], Tensor] | None = None,
    whole: bool = False,
) -> Played:
    """Acts step by step until all worlds have ended.

    Args:
        model: its head gives action logits and a value; put into evaluation mode here, and left as it was.
        worlds: are begun anew from the seed.
        draws: for the actions, on the CPU; None for the likeliest.
        edit_spans: see `Backbone.forward`.
        whole: whether to go on until the horizon, so that all policies take as many steps.
    """
    training = model.training
    model.eval()
    observation, state = worlds.reset(seed), model.init_state(worlds.count)
    steps: list[tuple[Tensor, ...]] = []
    named: dict[str, list[Tensor]] = {}
    while worlds.time < worlds.horizon if whole else not bool(worlds.ended.all()):
        alive = ~worlds.ended
        output = model(observation[:, None], state, edit_spans=edit_spans, caching=True)
        state = output.state
        logits, value = _policy(output)
        log_probability = logits[:, 0].log_softmax(-1)
        if draws is None:
            action = log_probability.argmax(-1)
        else:
            noise = torch.rand(log_probability.shape, generator=draws, dtype=torch.float64)
            gumbel = -(-noise.log()).log()
            action = (log_probability + gumbel.to(log_probability)).argmax(-1)
        chosen = log_probability.gather(-1, action[:, None])[:, 0]
        step = worlds.step(action)
        steps.append((observation, action, chosen, value[:, 0], step.reward, alive))
        observation = step.observation
        for name, figure in output.statistics.items():
            named.setdefault(name, []).append(figure)
    model.train(training)
    seen, action, chosen, valued, reward, alive = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
    statistics = {name: torch.stack(figures).mean() for name, figures in named.items()}
    return Played(seen, action, chosen, valued, reward, alive, state, statistics)


def advantages(played: Played, learning: LearningSettings) -> Tensor:
    """A [B, H]; of no meaning where a world has ended."""
    going_on = functional.pad(played.alive[:, 1:], (0, 1), value=False)
    following = functional.pad(played.value[:, 1:], (0, 1)) * going_on
    delta = played.reward + learning.discount * following - played.value
    found, last = torch.empty_like(delta), torch.zeros_like(delta[:, 0])
    for step in range(delta.shape[1] - 1, -1, -1):
        last = delta[:, step] + learning.discount * learning.trace * last * going_on[:, step]
        found[:, step] = last
    return found


def blocks(model: Backbone, played: Played, randomness: Callable[[int], float]) -> Iterator[tuple[slice, Output]]:
    """The model's outputs for the steps that were played, block by block, memory carried; with gradients.

    Args:
        randomness: u in (0, 1) by a block's number.
    """
    state, length = model.init_state(played.action.shape[0]), model.sizes.block_length
    for number, begin in enumerate(range(0, played.action.shape[1], length)):
        part = slice(begin, begin + length)
        output = model(played.observation[:, part], state, randomness(number))
        state = output.state
        yield part, output


def learn(
    model: Backbone,
    played: Played,
    learning: LearningSettings,
    entropy_weight: float,
    randomness: Callable[[int], float],
    backward: Callable[[Tensor], None],
) -> dict[str, Tensor]:
    """Adds up the gradients of an episode of every world, block by block.

    A method's noise in training (Expire-Span's `noisy`, `layer_drop`, dropout) is that of learning alone: who acts has
    none, so with it the policy that learns is not quite the one that acted.

    Args:
        model: in training mode.
        played: what to learn from.
        entropy_weight: c_e of this step.
        randomness: u in (0, 1) by a block's number.
        backward: adds a scalar loss's gradients up.

    Returns:
        the loss and its parts, each a mean over steps, and the layers' own statistics.
    """
    advantage = advantages(played, learning)
    target = advantage + played.value
    alive = played.alive
    count = alive.sum()
    mean, deviation = advantage[alive].mean(), advantage[alive].std(unbiased=False)
    normal = (advantage - mean) / (deviation + 1e-8)
    share = (
        model.sizes.block_length / alive.shape[1]
    )  # a block's auxiliary loss is a mean over T tokens; this, over all
    sums: dict[str, Tensor] = {}
    named: dict[str, list[Tensor]] = {}
    for part, output in blocks(model, played, randomness):
        logits, value = _policy(output)
        log_probability = logits.log_softmax(-1)
        chosen = log_probability.gather(-1, played.action[:, part, None])[..., 0]
        mask = alive[:, part]
        losses = {
            "policy_loss": -(chosen * normal[:, part] * mask).sum() / count,
            "value_loss": ((value - target[:, part]).square() * mask).sum() / count,
            "entropy": -((log_probability.exp() * log_probability).sum(-1) * mask).sum() / count,
        }
        loss = losses["policy_loss"] + learning.value_weight * losses["value_loss"]
        loss = loss - entropy_weight * losses["entropy"] + share * output.aux_loss
        backward(loss)
        for name, value_of in {"loss": loss, **losses}.items():
            sums[name] = sums.get(name, 0) + value_of.detach()
        for name, value_of in output.statistics.items():
            named.setdefault(name, []).append(value_of)
    return {**sums, **{name: torch.stack(values).mean() for name, values in named.items()}}


def _policy(output: Output) -> tuple[Tensor, Tensor]:
    """Action logits [B, n, actions] and values [B, n], in float32 at least."""
    y = output.y if output.y.dtype == torch.float64 else output.y.float()
    return y[..., :-1], y[..., -1]
