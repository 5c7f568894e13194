"""Lets the clock's processes take turns: one round is one turn of each, and never do two of them work at once."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from bench.clock.contestant import Failure, Order, Ready, Turn, enter
from bench.clock.settings import ClockSettings
from bench.executors import fork_server
from bench.executors.kernel_kills import KernelKills
from bench.store.statuses import Status

_CHANGE = 0.25
"""By which share of it the content of a memory may change from turn to turn."""
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

    @property
    def held_last(self) -> dict[str, float]:
        """What its memory held at the end of its last turn; empty where it had none."""
        return next((turn.held for turn in reversed(self.rounds) if turn is not None), {})

    @property
    def memory_steady(self) -> bool | None:
        """Whether its memory held at the end of every turn what it held when timing began; None where nothing says.

        Of slots alive and allocated, a quarter and one slot may come or go: predicted spans differ from block to block.
        """
        held = [turn.held for turn in self.rounds if turn is not None and turn.held]
        if self.ready is None or not held:
            return None
        before = self.ready.held
        return all(
            abs(after[name] - before[name]) <= max(1.0, _CHANGE * before[name])
            for after in held
            for name in ("slots_alive", "slots_allocated")
        )


class Contestant:
    """The coordinator's end of one process. One that hangs has as long for each answer as a cell for all its work.

    Args:
        order: what it is to hold.
        kernel_kills: what the kernel has killed since contestants were started; shared by all that live at a time.
    """

    def __init__(self, order: Order, kernel_kills: KernelKills) -> None:
        self.order = replace(order, environment=dict(os.environ))
        self._kernel_kills = kernel_kills
        self._limit: float | None = order.spec.get("time_limit_s")
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def resident(self) -> bool:
        """Whether it has a process."""
        return self._process is not None

    def start(self) -> Any:
        """Starts the process and waits for its first answer; ends the one before, if there is one."""
        self.stop()
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
            if not connection.wait([self._pipe], self._limit):
                self.stop()
                return Failure(Status.TIMEOUT, f"no answer within {self._limit:g} s")
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            return self._gone()

    def _gone(self) -> Failure:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode
        if code == -signal.SIGKILL and self._kernel_kills.take():
            return Failure(Status.OOM, "killed by the system for want of memory")
        return Failure(Status.ERROR, f"its process ended without an answer (exit code {code})")


def ask(order: Order, kernel_kills: KernelKills | None = None) -> Any:
    """Runs a process for its one answer; with `kernel_kills` where others run beside it."""
    contestant = Contestant(order, kernel_kills or KernelKills())
    try:
        return contestant.start()
    finally:
        contestant.stop()


def ask_each(
    orders: Mapping[str, Order], at_a_time: int, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Runs a process for each order's one answer; nothing may be timed meanwhile.

    Args:
        orders: what each is to hold.
        at_a_time: how many processes there may be at once. One that did not fit beside the others is run again alone.
        tell: called with a name when its process begins.

    Returns:
        each one's answer, a Failure among them.
    """
    kernel_kills = KernelKills()

    def one(name: str) -> Any:
        tell(name)
        return ask(orders[name], kernel_kills)

    with ThreadPoolExecutor(at_a_time) as pool:
        answers = dict(zip(orders, pool.map(one, orders), strict=True))
    for name, answer in answers.items():
        if at_a_time > 1 and isinstance(answer, Failure) and answer.status is Status.OOM:
            answers[name] = one(name)
    return answers


def run(
    orders: Mapping[str, Order], settings: ClockSettings, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Timed]:
    """Times contestants against each other.

    Args:
        orders: what each is to hold.
        settings: how long.
        tell: called with a line at each stage.

    Returns:
        for each name what was found out; in each round all took one turn, in that round's `order_of_turns`.
    """
    kernel_kills = KernelKills()
    contestants = {name: Contestant(order, kernel_kills) for name, order in orders.items()}
    timed = {name: Timed() for name in orders}
    stage = _Stage(contestants)
    try:
        for name, contestant in contestants.items():
            tell(f"preparing {name}")
            answer = stage.prepare(contestant)
            if isinstance(answer, Ready):
                timed[name].ready = answer
            else:
                timed[name].failure = answer
        for number in range(settings.rounds):
            tell(f"round {number + 1} of {settings.rounds}")
            for name in order_of_turns(list(contestants), number):
                timed[name].rounds.append(_turn(stage, contestants[name], timed[name], settings))
    finally:
        stage.clear()
    for found in timed.values():
        found.rebuilt = not stage.together
    return timed


def order_of_turns(names: Sequence[str], number: int) -> list[str]:
    """Who follows whom in a round: a Latin square in which each follows every other one equally often (Williams 1949).

    What a method leaves behind, a warm processor or a full cache, then falls to all others alike.

    Args:
        names: all contestants.
        number: of the round, from 0. Balanced are as many rounds as names; twice as many where their number is odd.
    """
    count = len(names)
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]  # 0, 1, -1, 2, -2, ...
    order = [names[(place + number) % count] for place in zigzag]
    return order[::-1] if count % 2 and number % 2 else order


class _Stage:
    """All contestants, resident together for as long as they fit; then one at a time, each built anew for its turn."""

    def __init__(self, contestants: Mapping[str, Contestant]) -> None:
        self.contestants = contestants
        self.together = True

    def prepare(self, contestant: Contestant) -> Any:
        """Starts a contestant; where it does not fit beside the others, alone. Returns Ready or Failure."""
        answer = contestant.start()
        if self._crowded(contestant, answer):
            answer = contestant.start()
        if not self.together or not isinstance(answer, Ready):
            contestant.stop()
        return answer

    def turn(self, contestant: Contestant, steps: int) -> Any:
        """Has a contestant take its steps. Returns a Turn or a Failure."""
        answer = contestant.turn(steps) if self.together else self._alone(contestant, steps)
        if self._crowded(contestant, answer):
            answer = self._alone(contestant, steps)
        return answer

    def clear(self) -> None:
        """Ends all processes."""
        for contestant in self.contestants.values():
            contestant.stop()

    def _alone(self, contestant: Contestant, steps: int) -> Any:
        try:
            answer = contestant.start()
            return contestant.turn(steps) if isinstance(answer, Ready) else answer
        finally:
            contestant.stop()

    def _crowded(self, contestant: Contestant, answer: Any) -> bool:
        """Whether memory ran out beside others who are still there. If so, all are ended, and never together again."""
        if not (self.together and isinstance(answer, Failure) and answer.status is Status.OOM):
            return False
        if not any(other.resident for other in self.contestants.values() if other is not contestant):
            return False
        self.together = False
        self.clear()
        return True


def _turn(stage: _Stage, contestant: Contestant, found: Timed, settings: ClockSettings) -> Turn | None:
    if found.failure is not None or found.ready is None:
        return None
    answer = stage.turn(contestant, steps_per_turn(found.ready.step_ms, settings))
    if isinstance(answer, Turn):
        return answer
    found.failure = answer
    contestant.stop()  # what it held is room for the others
    return None


def steps_per_turn(step_ms: float, settings: ClockSettings) -> int:
    """So many that all rounds together have the steps and the seconds that were asked for."""
    by_count = settings.steps / settings.rounds
    by_time = 1000 * settings.seconds / settings.rounds / max(step_ms, 1e-3)
    return max(1, math.ceil(max(by_count, by_time)))
