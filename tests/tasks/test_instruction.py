"""The instruction world: its text, understood by a reader who knows the grammar and nothing of the generator."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import SettingsError
from tasks import instruction
from tasks.instruction import Settings, check, label, scorer, writer
from tasks.instruction_words import FRAMES, PEOPLE, PLACES, THINGS, TRIGGERS, VERBS, WORDS
from tasks.instruction_world import ACT, WAIT
from tasks.stream import StreamBatch
from tasks.text_view import written
from tasks.train_settings import TrainSettings

INSTRUCTION = re.compile(r"^(\w+) says : when the (\w+) (\w+) , (\w+ the \w+ to \w+ \.)$")
CORRECTION = re.compile(r"^(\w+) says : forget about the (\w+) \.$")
SOUND = re.compile(r"^the (\w+) (\w+) \. >$")


class Reader:
    """Reads a row's text turn by turn and answers by itself."""

    def __init__(self, settings: Settings, tokens: int = 40_000, key: int = 3) -> None:
        pieces = written(writer(settings), key, tokens)
        self.word = [WORDS[token] for piece in pieces for token in piece.token.tolist()]
        self.item, self.distance, self.kind = (
            np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("item", "distance", "kind")
        )
        self.turns: Counter[str] = Counter()
        self.delays: Counter[int] = Counter()
        self.pending: dict[str, tuple[str, int, int]] = {}
        self.fates: Counter[str] = Counter()
        self.read()

    def read(self) -> None:
        begin = turn = answers = 0
        sounds = dict(TRIGGERS)
        while begin < len(self.word):
            end = begin + 1
            while self.word[end - 1] not in (".", "?", ">") or (end < len(self.word) and self.word[end] == ">"):
                end += 1
            sentence = " ".join(self.word[begin:end])
            assert (self.item[begin:end] == -1).all(), sentence
            if told := INSTRUCTION.match(sentence):
                speaker, trigger, sound, what = told.groups()
                assert (speaker in PEOPLE, sounds[trigger]) == (True, sound)
                verb, _, thing, _, person, _ = what.split()
                assert (verb in VERBS, thing in THINGS, person in PEOPLE) == (True, True, True)
                self.fates["replaced"] += trigger in self.pending
                self.pending[trigger] = (what, end - 6, turn)
                self.turns["instruction"] += 1
            elif told := CORRECTION.match(sentence):
                assert self.pending.pop(told[2], None) is not None, "nothing is taken back that was not said"
                self.fates["cancelled"] += 1
            elif told := SOUND.match(sentence):
                assert sounds[told[1]] == told[2]
                what, place, since = self.pending.pop(told[1], ("wait .", -1, -1))
                begin, end = end, end + len(what.split())
                assert " ".join(self.word[begin:end]) == what
                assert set(self.item[begin:end]) == {answers}
                assert set(self.distance[begin:end]) == {begin - place if place >= 0 else -1}
                assert set(self.kind[begin:end]) == {ACT if place >= 0 else WAIT}
                if place >= 0:
                    self.delays[turn - since] += 1
                    self.fates["carried out"] += 1
                self.turns["act" if place >= 0 else "wait"] += 1
                answers += 1
            else:
                self.turns["chatter"] += 1
            begin, turn = end, turn + 1


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(triggers=1, max_delay=40), Settings(cancel=0.5, replace=0.5)]
)
def test_every_answer_is_what_a_reader_would_say(settings: Settings) -> None:
    reader = Reader(settings)
    assert all(reader.turns[name] > 100 for name in ("instruction", "wait", "chatter"))
    assert (reader.turns["act"] > 100) == (settings.cancel + settings.replace < 1)


def test_delays_are_log_uniform_and_fates_as_probable_as_asked_for() -> None:
    settings = Settings(max_delay=15, instruct=0.05, unasked=0.0, cancel=0.2, replace=0.3)  # turns are seldom taken
    reader = Reader(settings, 300_000)
    told = reader.turns["instruction"]
    assert reader.fates["cancelled"] / told == pytest.approx(0.2, abs=0.02)
    assert reader.fates["replaced"] / told == pytest.approx(0.3, abs=0.02)
    waits = reader.turns["wait"]
    assert 0 <= reader.fates["cancelled"] - waits <= settings.triggers, "what was cancelled sounds too, once each"
    count = sum(reader.delays.values())
    for low, high in ((1, 1), (2, 3), (4, 7), (8, 15)):
        share = sum(reader.delays[delay] for delay in range(low, high + 1)) / count
        assert share == pytest.approx(0.25, abs=0.025), (low, high)
    assert reader.delays[15] > 0.5 * reader.delays[14], "the longest delay is one of them"


def test_answers_are_a_twentieth_of_the_tokens_at_least() -> None:
    for settings in (Settings(), Settings(triggers=len(TRIGGERS), max_delay=1000)):
        assert (Reader(settings).item >= 0).mean() > 0.05


def test_chatter_has_the_words_of_instructions_and_never_their_form() -> None:
    assert len(FRAMES) >= 40
    assert len({tuple(frame) for frame in FRAMES}) == len(FRAMES)
    slots = {"PERSON": "anna", "THING": "lamp", "PLACE": "mill"}
    for frame in FRAMES:
        sentence = " ".join(slots.get(word, word) for word in frame)
        assert not any(form.match(sentence) for form in (INSTRUCTION, CORRECTION, SOUND))
        assert not {"when", "forget", "wait", ">"} & set(frame)
        assert sum(word in ("?", ".") for word in frame) == 1
    assert (len(VERBS) >= 10, len(THINGS) >= 20, len(PEOPLE) >= 12, len(PLACES) >= 10) == (True,) * 4
    assert len({trigger for trigger, _ in TRIGGERS}) == len({sound for _, sound in TRIGGERS}) == len(TRIGGERS)
    assert not {trigger for trigger, _ in TRIGGERS} & {*THINGS, *PEOPLE, *PLACES}
    assert len(set(WORDS)) == len(WORDS)


def test_answers_are_right_in_every_word_or_wrong() -> None:
    count = scorer(Settings(), TrainSettings())
    shape = (1, 6)
    batch = StreamBatch(
        inputs=torch.zeros(shape, dtype=torch.long),
        targets=torch.tensor([[5, 6, 7, 8, 9, 9]]),
        weights=torch.tensor([[1.0, 1, 1, 1, 0, 1]]),
        reset=torch.zeros(1, dtype=torch.bool),
        position={},
        distance=torch.tensor([[20, 20, -1, -1, 0, 40]]),
        item=torch.tensor([[0, 0, 1, 1, -1, 2]]),
        kind=torch.tensor([[ACT, ACT, WAIT, WAIT, ACT, ACT]]),
    )
    logits = torch.nn.functional.one_hot(torch.tensor([[5, 0, 7, 8, 0, 9]]), len(WORDS)).float()
    count.add(batch, logits, torch.zeros(shape))
    found = {(score.metric, score.context.get("distance")): (score.value, score.n) for score in count.scores()}
    assert found["answers", None] == (100 * 2 / 3, 3)
    assert found["acts", None] == (50.0, 2)
    assert found["waits", None] == (100.0, 1)
    assert found["answers_chance", None] == (100 / 3, 3), "of three answers, one is to wait"
    assert found["acts_by_distance", "16-31"] == (0.0, 1)
    assert found["acts_by_distance", "32-63"] == (100.0, 1)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"triggers": 0}, "triggers"),
        ({"triggers": 99}, "triggers"),
        ({"max_delay": 0}, "max_delay"),
        ({"instruct": 0.0}, "instruct"),
        ({"instruct": 0.8, "unasked": 0.3}, "instruct"),
        ({"cancel": -0.1}, "cancel"),
        ({"unscored_tokens": -1}, "unscored_tokens"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, float], key: str) -> None:
    with pytest.raises(SettingsError, match=rf"task\.instruction\.{key}"):
        check(replace(Settings(), **changed), TrainSettings())  # type: ignore[arg-type]


def test_the_command_shows_turns(capsys: pytest.CaptureFixture[str]) -> None:
    assert label(Settings(triggers=4, max_delay=9)) == "instruction-4-9"
    instruction.main(["--show"])
    told = capsys.readouterr().out
    assert told.count("> [") > 10
    assert "says : when the" in told
