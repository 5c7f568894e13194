"""From a trial's parameters to its cell: the same checks and the same ids as a study's cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.spec import CellSpec
from bench.study import Study, plan
from models.errors import SettingsError
from sweeps.space import Scalar, Space, parameters_json

_HOW_IT_RUNS = ("preset", "threads", "time_limit_s")
"""Of a cell's spec: what may change between two runs of one sweep, because it changes no value."""


class TrialCells:
    """The cells that a space comes to, checked before the first trial.

    Args:
        space: the parsed file.
        name: the sweep's name.
        assignments: ``KEY=VALUE`` texts of ``--set``, over the file's own.
        plugins: what `bench.plugins.add_plugins` returned.

    Raises:
        SettingsError: a key is unknown, an end of a range cannot work, or a parameter is fixed with ``--set``.
    """

    def __init__(
        self,
        space: Space,
        name: str,
        assignments: Iterable[str] = (),
        plugins: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._space, self._name, self._plugins = space, name, plugins
        self._assignments = list(assignments)
        for assignment in self._assignments:
            key = assignment.partition("=")[0]
            if key in space.parameters:
                raise SettingsError(
                    key, "is searched, so it cannot be fixed", f"Take it out of {space.source}.", "--set"
                )
        first = {key: parameter.ends()[0] for key, parameter in space.parameters.items()}
        self.study = self._plan(first)
        for key, parameter in space.parameters.items():
            for end in parameter.ends()[1:]:
                self._plan({**first, key: end})
        self._plan({key: parameter.ends()[-1] for key, parameter in space.parameters.items()})
        card = self.study.parts[f"task.{space.task}"].card
        self.metric, self.unit = str(card["metric"]), str(card["unit"])
        self.higher_is_better = bool(card["higher_is_better"])
        if space.objective.metric not in ("", self.metric):
            problem = f"is {space.objective.metric}, and {space.task} is judged by {self.metric}"
            raise SettingsError("objective.metric", problem, "Write that, or leave it out.", space.source)

    def spec(self, parameters: Mapping[str, Scalar]) -> CellSpec:
        """The cell of a trial. Raises SettingsError where these parameters do not go together."""
        return self._plan(parameters).cells[0]

    def definition(self) -> dict[str, Any]:
        """All that decides what the trials' values mean, as JSON data: one sweep keeps to one."""
        space, cell = self._space, self.study.cells[0].to_json()
        return {
            "cell": {key: value for key, value in cell.items() if key not in _HOW_IT_RUNS},
            "parameters": parameters_json(space),
            "objective": {"metric": self.metric, "split": space.objective.split},
            "sampler": vars(space.sampler),
            "pruner": vars(space.pruner),
        }

    def _plan(self, parameters: Mapping[str, Scalar]) -> Study:
        space = self._space
        try:
            return plan(
                space.base,
                name=self._name,
                tasks=[space.task],
                methods=[space.method],
                seeds=[space.seed],
                assignments=[*_assigned(space.fixed), *self._assignments, *_assigned(parameters)],
                plugins=self._plugins,
            )
        except SettingsError as error:
            # `plan` knows only --set; the user wrote the value in the space file.
            flags = {assignment.partition("=")[0] for assignment in self._assignments}
            inner = error.source == "--set" and error.key not in flags
            source = f"{space.source}" if inner or error.key in ("--tasks", "--methods") else error.source
            raise SettingsError(error.key, error.problem, error.remedy, source) from error


def _assigned(values: Mapping[str, Scalar]) -> list[str]:
    """Settings as ``KEY=VALUE`` texts; numbers with all their digits."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
