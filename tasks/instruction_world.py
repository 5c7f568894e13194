"""The text world of the instruction task: who says what, what sounds, and what is to be done then.

One turn after another, each of one sentence:

    chatter        from frames, with the same names, things and places
    instruction    <speaker> says : when the <trigger> <sounds> , <verb> the <thing> to <person> .
    trigger        the <trigger> <sounds> . >    and the answer: <verb> the <thing> to <person> .    or    wait .
    correction     <speaker> says : forget about the <trigger> .

An instruction draws its delay (turns, log-uniform in 1 .. max_delay) and its fate: carried out when its trigger
sounds, cancelled before that by a correction (the trigger sounds all the same), or replaced by another instruction for
the same trigger, which draws a delay and a fate of its own. Where nothing is due, a turn is an instruction for a
trigger that has nothing pending, such a trigger sounding unasked, or chatter. What is due in a turn that is taken moves
to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.instruction_words import FRAMES, NUMBER, PEOPLE, PLACES, THINGS, TRIGGERS, VERBS
from tasks.text_stream import Piece, RowState

Choice = TypeVar("Choice")

TURNS = 256
"""Turns of a piece of text."""
ACT, WAIT = 0, 1
"""Kinds of answer: what an instruction said, and `wait`."""
_FREE, _CARRY_OUT, _CANCEL, _REPLACE, _CANCELLED = range(5)
_DRAWS = 8

_SLOTS = {
    "PERSON": [NUMBER[word] for word in PEOPLE],
    "THING": [NUMBER[word] for word in THINGS],
    "PLACE": [NUMBER[word] for word in PLACES],
}
_FRAMES = [[_SLOTS.get(word) or NUMBER[word] for word in frame] for frame in FRAMES]


def _numbers(text: str) -> list[int]:
    return [NUMBER[word] for word in text.split()]


_WHEN, _FORGET, _WAIT = _numbers("says : when the"), _numbers("says : forget about the"), _numbers("wait .")
_THE, _TO, _COMMA, _DOT, _ANSWER = _numbers("the to , . >")
_VERBS, _SOUNDS = [NUMBER[verb] for verb in VERBS], [_numbers(" ".join(pair)) for pair in TRIGGERS]
_PEOPLE, _THINGS = _SLOTS["PERSON"], _SLOTS["THING"]


@dataclass(frozen=True)
class InstructionWriter:
    """Writes the turns of a row.

    State: `piece`, `turn`, `length` and `answers`, how many of each there were (length in tokens); and `plan`
    [triggers, 7]: what is to come, when, when a cancelled one sounds, verb, thing, person, and where it was said.

    Args:
        triggers: how many triggers there are.
        max_delay: the longest delay in turns.
        instruct: probability that a turn in which nothing is due gives an instruction, if some trigger is free.
        unasked: probability that in such a turn a free trigger sounds.
        cancel, replace: probabilities of these fates.
    """

    triggers: int
    max_delay: int
    instruct: float
    unasked: float
    cancel: float
    replace: float

    def begin(self, key: int) -> RowState:
        zero = np.array(0)
        plan = np.zeros((self.triggers, 7), dtype=np.int64)
        return {"piece": zero, "turn": zero, "length": zero, "answers": zero, "plan": plan}

    def write(self, key: int, state: RowState) -> tuple[Piece, RowState]:
        number = int(state["piece"])
        draws = np.random.Generator(np.random.Philox(key=np.array([key, 0], np.uint64), counter=[0, 0, 0, number]))
        turns = _Turns(self, int(state["turn"]), int(state["length"]), int(state["answers"]), state["plan"])
        for row in draws.random((TURNS, _DRAWS)).tolist():
            turns.next(row)
        after = {
            "piece": np.array(number + 1),
            "turn": np.array(turns.turn),
            "length": np.array(int(state["length"]) + len(turns.token)),
            "answers": np.array(turns.answers),
            "plan": np.array(turns.plan),
        }
        answered = np.full((3, len(turns.token)), -1)
        answered[2] = ACT
        for begin, end, item, distance, kind in turns.answered:
            answered[:, begin:end] = [[item], [distance], [kind]]
        return Piece(np.array(turns.token), *answered), after


class _Turns:
    """A piece of text under way."""

    def __init__(self, rules: InstructionWriter, turn: int, length: int, answers: int, plan: NDArray[np.int64]) -> None:
        self.rules, self.turn, self.length, self.answers = rules, turn, length, answers
        self.plan: list[list[int]] = plan.tolist()
        self.token: list[int] = []
        self.answered: list[tuple[int, int, int, int, int]] = []

    def next(self, draws: list[float]) -> None:
        """One turn, from numbers [_DRAWS] in [0, 1)."""
        due = [(of[1], trigger) for trigger, of in enumerate(self.plan) if of[0] != _FREE and of[1] <= self.turn]
        if due:
            self.come(min(due)[1], draws)
        else:
            free = [trigger for trigger, of in enumerate(self.plan) if of[0] == _FREE]
            what = draws[0]
            if free and what < self.rules.instruct:
                self.say(_chosen(free, draws[1]), draws)
            elif free and what >= 1 - self.rules.unasked:
                self.sound(_chosen(free, draws[1]))
            else:
                self.chat(draws)
        self.turn += 1

    def come(self, trigger: int, draws: list[float]) -> None:
        """What was due comes."""
        of = self.plan[trigger]
        if of[0] == _CANCEL:
            self.token += [_chosen(_PEOPLE, draws[2]), *_FORGET, _SOUNDS[trigger][0], _DOT]
            of[0], of[1] = _CANCELLED, max(of[2], self.turn + 1)
        elif of[0] == _REPLACE:
            self.say(trigger, draws)
        else:
            self.sound(trigger)
            of[0] = _FREE

    def say(self, trigger: int, draws: list[float]) -> None:
        """An instruction for a trigger."""
        rules = self.rules
        verb, thing, person = (_chosen(some, u) for some, u in zip((_VERBS, _THINGS, _PEOPLE), draws[3:6], strict=True))
        delay = int(math.exp(draws[6] * math.log(rules.max_delay + 1)))
        fate, due = _CARRY_OUT, self.turn + delay
        if draws[7] < rules.cancel:
            fate, due = _CANCEL, self.turn + 1 + int(draws[7] / rules.cancel * delay)
        elif draws[7] < rules.cancel + rules.replace:
            fate = _REPLACE
        self.token += [_chosen(_PEOPLE, draws[2]), *_WHEN, *_SOUNDS[trigger], _COMMA]
        self.plan[trigger] = [fate, due, self.turn + delay, verb, thing, person, self.length + len(self.token)]
        self.token += [verb, _THE, thing, _TO, person, _DOT]

    def sound(self, trigger: int) -> None:
        """A trigger sounds, and the answer to it."""
        fate, _, _, verb, thing, person, said = self.plan[trigger]
        self.token += [_THE, *_SOUNDS[trigger], _DOT, _ANSWER]
        begin = len(self.token)
        if fate == _CARRY_OUT:
            self.token += [verb, _THE, thing, _TO, person, _DOT]
            distance, kind = self.length + begin - said, ACT
        else:
            self.token += _WAIT
            distance, kind = -1, WAIT
        self.answered.append((begin, len(self.token), self.answers, distance, kind))
        self.answers += 1

    def chat(self, draws: list[float]) -> None:
        """A sentence of chatter."""
        slots = iter(draws[2:])
        frame = _chosen(_FRAMES, draws[1])
        self.token += [word if isinstance(word, int) else _chosen(word, next(slots)) for word in frame]


def _chosen(some: list[Choice], u: float) -> Choice:
    return some[int(u * len(some))]
