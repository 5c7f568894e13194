"""How a task is learned, which its card's ``objective`` names: loaded on demand, as tasks and methods are.

So results of a stream task stay fresh when the learning of episodes changes, and the other way round.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from models.errors import Unsupported

if TYPE_CHECKING:
    from models.backbone import Backbone
    from tasks.task_module import TaskModule
    from tasks.train_settings import TrainSettings

OBJECTIVES = {"streams": "stream_module", "episodes": "episode_module", "documents": "document_module"}
"""Objective to the module in ``tasks/`` that has the function ``module``."""


def new_module(
    objective: str, task: Any, settings: Any, model: Backbone, train: TrainSettings, seed: int
) -> TaskModule:
    """The Lightning module of a task.

    Args:
        objective: what the task's card names.
        task: the task's module; settings: its Settings.
        model: the backbone with its method; train: how it is trained.
        seed: all randomness of training comes from it.

    Raises:
        Unsupported: there is no such objective.
    """
    if objective not in OBJECTIVES:
        raise Unsupported(f"there is no objective {objective!r}, only {', '.join(OBJECTIVES)}")
    if objective != "documents" and model.readings() > 1:
        raise Unsupported("the method reads a document twice before it labels it, and this task is no document")
    found = importlib.import_module(f"tasks.{OBJECTIVES[objective]}")
    module: TaskModule = found.module(task, settings, model, train, seed)
    return module
