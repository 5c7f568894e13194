"""Lets the clock's processes take turns: one round is one turn of each, and never do two of them work at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from bench.clock.contestant import Failure, Order, Ready, Turn, enter
from bench.clock.settings import ClockSettings
from bench.executors import fork_server
from bench.store.statuses import Status

_PRELOADED = (*fork_server.PRELOADED, "bench.clock.contestant")


@dataclass
class Timed:
    """What the clock found out about one contestant.

    Args:
        ready: what it said when it was prepared; None where it failed before.
        rounds: its turns; None for a round in which it had none.
        failure: why there are no more.
        rebuilt: whether it had to be built anew for each turn, because not all fit together.
    """

    ready: Ready | None = None
    rounds: list[Turn | None] = field(default_factory=list)
    failure: Failure | None = None
    rebuilt: bool = False


class Contestant:
    """The coordinator's end of one process."""

    def __init__(self, order: Order) -> None:
        self.order = replace(order, environment=dict(os.environ))
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> Any:
        """Starts the process and waits for its first answer."""
        context: Any = fork_server.start(_PRELOADED)
        self._pipe, theirs = context.Pipe()
        process: BaseProcess = context.Process(target=enter, args=(self.order, theirs), daemon=False)
        process.start()
        self._process = process
        theirs.close()
        return self._answer()

    def turn(self, steps: int) -> Any:
        """Has it take some steps. Returns a Turn or a Failure."""
        assert self._pipe is not None
        try:
            self._pipe.send(steps)
        except (BrokenPipeError, ConnectionError):
            return self._gone()
        return self._answer()

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None

    def _answer(self) -> Any:
        assert self._pipe is not None
        try:
            connection.wait([self._pipe])
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            return self._gone()

    def _gone(self) -> Failure:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode
        return Failure(Status.ERROR, f"its process ended without an answer (exit code {code})")


def ask(order: Order) -> Any:
    """Runs a process for its one answer."""
    contestant = Contestant(order)
    try:
        return contestant.start()
    finally:
        contestant.stop()


def run(
    orders: Mapping[str, Order], settings: ClockSettings, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Timed]:
    """Times contestants against each other.

    Args:
        orders: what each is to hold.
        settings: how long.
        tell: called with a line at each stage.

    Returns:
        for each name what was found out; in each round all took their turn in the same order.
    """
    contestants = {name: Contestant(order) for name, order in orders.items()}
    timed = {name: Timed() for name in orders}
    together = True
    try:
        for name, contestant in contestants.items():
            tell(f"preparing {name}")
            answer = contestant.start()
            if _is_oom(answer) and together and any(other.ready for other in timed.values()):
                # Not all fit together: from here on each is built anew for its turn.
                together = False
                for other in contestants.values():
                    other.stop()
                answer = contestant.start()
            if isinstance(answer, Ready):
                timed[name].ready = answer
            else:
                timed[name].failure = answer
            if not together or timed[name].failure:
                contestant.stop()
        for number in range(settings.rounds):
            tell(f"round {number + 1} of {settings.rounds}")
            for name, contestant in contestants.items():
                timed[name].rounds.append(_turn(contestant, timed[name], settings, together))
    finally:
        for contestant in contestants.values():
            contestant.stop()
    for found in timed.values():
        found.rebuilt = not together
    return timed


def _turn(contestant: Contestant, found: Timed, settings: ClockSettings, together: bool) -> Turn | None:
    if found.failure is not None or found.ready is None:
        return None
    if not together:
        answer = contestant.start()
        if not isinstance(answer, Ready):
            found.failure = answer
            return None
    answer = contestant.turn(steps_per_turn(found.ready.step_ms, settings))
    if not together:
        contestant.stop()
    if isinstance(answer, Turn):
        return answer
    found.failure = answer
    return None


def steps_per_turn(step_ms: float, settings: ClockSettings) -> int:
    """So many that all rounds together have the steps and the seconds that were asked for."""
    by_count = settings.steps / settings.rounds
    by_time = 1000 * settings.seconds / settings.rounds / max(step_ms, 1e-3)
    return max(1, math.ceil(max(by_count, by_time)))


def _is_oom(answer: Any) -> bool:
    return isinstance(answer, Failure) and answer.status is Status.OOM
