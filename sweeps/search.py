"""Optuna's side of a space: its sampler, its pruner, and how a trial gets its parameters."""

from __future__ import annotations

import hashlib

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from sweeps.space import Parameter, PrunerSettings, SamplerSettings, Scalar, Space


def pruner(settings: PrunerSettings) -> BasePruner:
    """The pruner of a space; its steps are training steps."""
    if settings.kind == "none":
        return NopPruner()
    if settings.kind == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=settings.warmup_steps, reduction_factor=settings.reduction_factor)
    return MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_steps)


def sampler(settings: SamplerSettings, number: int) -> BaseSampler:
    """The sampler for one trial.

    Every trial has a seed of its own, made from the space's and the trial's number: a sampler that is made anew when
    the sweep goes on would otherwise repeat its first choices, and two workers would choose the same.
    """
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {number}".encode()).digest()[:4], "big")
    if settings.kind == "random":
        return RandomSampler(seed=seed)
    return TPESampler(n_startup_trials=settings.startup_trials, seed=seed)


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """A trial's parameters: chosen now, or as they were chosen before it was interrupted."""
    trial.study.sampler = sampler(space.sampler, trial.number)
    return {key: _suggest(trial, key, parameter) for key, parameter in space.parameters.items()}


def _suggest(trial: optuna.Trial, key: str, parameter: Parameter) -> Scalar:
    if parameter.choices:
        return trial.suggest_categorical(key, parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, step=1 if step is None else int(step), log=parameter.log)
    return trial.suggest_float(key, low, high, step=step, log=parameter.log)
