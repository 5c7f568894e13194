"""Processes that take turns: in order, never two at once; and one that fails leaves the others measured."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.clock import rounds
from bench.clock.contestant import Failure, Order, Ready, Turn
from bench.clock.rounds import Timed, ask, order_of_turns, run
from bench.clock.settings import ClockSettings
from bench.store.statuses import Status
from models.registry import load_file

tiny = load_file(Path(__file__).with_name("tiny_cells.py"))
QUICK = ClockSettings(rounds=3, steps=6, seconds=0, warmup_steps=1)
FIRST_TURN = 3
"""The number of the first timed call of a probe of one layer: memory is filled with one block, warm-up takes one."""


class Field:
    """Contestants of the plugin in one folder."""

    def __init__(self, folder: Path) -> None:
        self.text, self.plugin, self.log = tiny.write_text(folder), tiny.write_probe(folder), folder / "log"
        self.lock = folder / "lock"

    def order(self, **settings: Any) -> Order:
        impl = settings.pop("impl", "reference")
        cell = tiny.spec(self.text, "probe", self.plugin, impl=impl, layers=1, settings=settings)
        return Order(cell.to_json(), "step", warmup_steps=1)

    def intervals(self) -> list[tuple[int, float, float]]:
        """Each call's process, beginning and end, by beginning."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return sorted(((int(pid), float(begin), float(end)) for pid, begin, end in lines), key=lambda call: call[1])


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


def is_measured(found: Timed) -> bool:
    return found.failure is None and [turn is not None for turn in found.rounds] == [True] * 3


def test_all_take_turns_in_order_and_never_two_at_once(field: Field) -> None:
    order = field.order(log=str(field.log), seconds=0.004)
    said: list[str] = []
    timed = run({"a": order, "b": order, "c": order}, QUICK, said.append)
    assert said == ["preparing a", "preparing b", "preparing c", *[f"round {number} of 3" for number in (1, 2, 3)]]
    calls = field.intervals()
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(calls))
    processes = list(dict.fromkeys(pid for pid, _, _ in calls))
    assert len(processes) == 3
    assert os.getpid() not in processes
    prepared = [pid for pid in processes for _ in range(FIRST_TURN - 1)]
    turns = [processes["abc".index(name)] for name in "abcacbcab" for _ in range(2)]
    assert [pid for pid, _, _ in calls] == prepared + turns
    for found in timed.values():
        assert is_measured(found)
        assert not found.rebuilt
        assert found.ready is not None
        assert (found.ready.proof, found.ready.held["slots_alive"]) == ("it is the reference", 1.0)
        for turn in found.rounds:
            assert turn is not None
            assert len(turn.samples_ms) == 2
            assert all(ms >= 4 for ms in turn.samples_ms)
            assert turn.wall_ms >= sum(turn.samples_ms)
            assert turn.held == found.ready.held
        assert found.memory_steady


@pytest.mark.parametrize("count", range(1, 9))
def test_turns_are_in_another_order_each_round_and_each_follows_every_other_equally_often(count: int) -> None:
    names = [str(number) for number in range(count)]
    period = 2 * count if count % 2 else count
    orders = [order_of_turns(names, number) for number in range(period)]
    assert all(sorted(order) == names for order in orders)
    assert {tuple(place).count(name) for place in zip(*orders, strict=True) for name in names} == {period // count}
    followers = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert set(followers) == set(itertools.permutations(names, 2))
    assert set(followers.values()) <= {period // count}
    assert order_of_turns(names, period) == orders[0]


BROKEN = "ValueError: the probe is broken (probe.py:"
KILLED = "its process ended without an answer (exit code -9)"


@pytest.mark.parametrize(
    ("deed", "at", "turns", "status", "reason"),
    [
        pytest.param("raise", 1, 0, "error", BROKEN, marks=pytest.mark.slow),
        ("raise", FIRST_TURN + 2, 1, "error", BROKEN),
        pytest.param("kill", 1, 0, "error", KILLED, marks=pytest.mark.slow),
        pytest.param("kill", FIRST_TURN + 2, 1, "error", KILLED, marks=pytest.mark.slow),
        pytest.param("memory", 1, 0, "oom", "out of memory", marks=pytest.mark.slow),
        ("memory", FIRST_TURN, 0, "oom", "out of memory"),
    ],
)
def test_one_that_fails_leaves_the_others_measured(
    field: Field, deed: str, at: int, turns: int, status: str, reason: str
) -> None:
    timed = run({"a": field.order(), "bad": field.order(deed=deed, at=at), "b": field.order()}, QUICK)
    bad = timed["bad"]
    assert bad.failure is not None
    assert bad.failure.status.value == status
    assert bad.failure.reason.startswith(reason)
    assert (bad.ready is None) == (at == 1)
    assert [turn is not None for turn in bad.rounds] == [number < turns for number in range(3)]
    assert is_measured(timed["a"])
    assert is_measured(timed["b"])


class Counted:
    """The kernel's count of its kills, as the coordinator sees it: one was meant for us."""

    def __init__(self, kills: int) -> None:
        self.kills = kills

    def take(self) -> bool:
        self.kills -= 1
        return self.kills >= 0


def test_one_that_the_kernel_killed_beside_others_is_measured_alone(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "KernelKills", lambda: Counted(1))
    timed = run(
        {"a": field.order(), "large": field.order(deed="killed once", at=FIRST_TURN, log=str(field.log))}, QUICK
    )
    assert all(is_measured(found) and found.rebuilt for found in timed.values()), timed["large"].failure


def test_one_that_the_kernel_kills_with_the_device_to_itself_is_out_of_memory(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "KernelKills", lambda: Counted(2))
    timed = run({"a": field.order(), "large": field.order(deed="kill", at=FIRST_TURN)}, QUICK)
    assert timed["large"].failure == Failure(Status.OOM, "killed by the system for want of memory")
    assert is_measured(timed["a"])


@pytest.mark.slow
@pytest.mark.parametrize(("at", "turns"), [(1, 0), (FIRST_TURN + 2, 1)])
def test_one_that_hangs_has_no_more_time_than_its_cell_had(field: Field, at: int, turns: int) -> None:
    hangs = field.order(deed="hang", at=at)
    hangs.spec["time_limit_s"] = 8
    timed = run({"a": field.order(), "hangs": hangs, "b": field.order()}, QUICK)
    assert timed["hangs"].failure == Failure(Status.TIMEOUT, "no answer within 8 s")
    assert sum(turn is not None for turn in timed["hangs"].rounds) == turns
    assert is_measured(timed["a"])
    assert is_measured(timed["b"])


@pytest.mark.slow
def test_those_that_do_not_fit_together_are_rebuilt_each_round(field: Field) -> None:
    orders = {
        "first": field.order(lock=str(field.lock), log=str(field.log)),
        "large": field.order(lock=str(field.lock), deed="alone", at=1, log=str(field.log)),
        "last": field.order(lock=str(field.lock), log=str(field.log)),
    }
    timed = run(orders, QUICK)
    for found in timed.values():
        assert is_measured(found), found.failure
        assert found.rebuilt
    processes = {pid for pid, _, _ in field.intervals()}
    assert len(processes) == 3 + 3 * 3, "three prepared (one twice, of which once in vain), and one for each turn"


@pytest.mark.slow
def test_one_that_no_longer_fits_in_its_turn_is_measured_alone(field: Field) -> None:
    orders = {
        "first": field.order(lock=str(field.lock)),
        "grows": field.order(lock=str(field.lock), deed="alone", at=FIRST_TURN),
        "last": field.order(lock=str(field.lock)),
    }
    timed = run(orders, QUICK)
    assert all(is_measured(found) and found.rebuilt for found in timed.values())


def test_an_impl_that_computes_something_else_gets_no_time(field: Field) -> None:
    timed = run({"right": field.order(impl="fast"), "wrong": field.order(impl="fast", fault=1e-6)}, QUICK)
    assert is_measured(timed["right"])
    assert timed["right"].ready is not None
    assert timed["right"].ready.proof == "the reference on the CPU"
    wrong = timed["wrong"]
    assert wrong.ready is None
    assert wrong.rounds == [None, None, None]
    assert wrong.failure is not None
    assert wrong.failure.status is Status.ERROR
    assert wrong.failure.reason.startswith("probe (fast) on cpu differs from the reference in outputs of block 0 by")


@pytest.mark.parametrize("what", ["step", "trainer", "train memory", "evaluation memory"])
def test_a_memory_that_grows_without_end_cannot_be_measured_and_says_what_to_set(field: Field, what: str) -> None:
    endless = tiny.spec(field.text, "full_attention", settings={"max_span": None})
    assert ask(Order(endless.to_json(), what)) == Failure(
        Status.UNSUPPORTED, "memory grows without end, so it is never full; set method.full_attention.max_span"
    )


def test_a_method_that_keeps_nothing_is_measured_without_max_span(field: Field) -> None:
    nothing = tiny.spec(field.text, "full_attention", settings={"max_span": None, "memory": "none"})
    assert isinstance(ask(Order(nothing.to_json(), "step", warmup_steps=1)), Ready)


def test_inside_the_trainer_it_takes_turns_with_its_memory_full(field: Field) -> None:
    cell = tiny.spec(field.text, "transformer_xl").to_json()
    orders = {name: Order(cell, what, warmup_steps=3) for name, what in (("raw", "step"), ("in it", "trainer"))}
    timed = run(orders, QUICK)
    for found in timed.values():
        assert is_measured(found), found.failure
        assert found.ready is not None
        assert found.ready.proof == "4 golden files"
        assert found.ready.held["slots_alive"] == 12
    for turn in timed["in it"].rounds:
        assert isinstance(turn, Turn)
        assert turn.held["slots_alive"] == 12
        assert len(turn.samples_ms) == 2
        assert turn.wall_ms == pytest.approx(sum(turn.samples_ms), rel=0.05)


def test_inside_the_trainer_a_row_whose_text_ends_goes_on_with_its_memory_full(field: Field) -> None:
    long_spans = {"initial_fraction": 0.99}
    rows_of_five_blocks = tiny.spec(field.text, "expire_span", settings=long_spans, batch_size=500).to_json()
    turns = ClockSettings(rounds=8, steps=8, seconds=0, warmup_steps=1)
    found = run({"in it": Order(rows_of_five_blocks, "trainer", warmup_steps=1)}, turns)["in it"]
    assert found.failure is None
    assert found.ready is not None
    for turn in found.rounds:
        assert isinstance(turn, Turn)
        assert turn.held == found.ready.held
    assert found.ready.held["slots_alive"] == 43


@pytest.mark.parametrize(
    ("alive", "allocated", "steady"),
    [([100, 80, 120], [128, 120, 128], True), ([100, 35], [128, 128], False), ([100, 100], [128, 64], False)],
)
def test_a_memory_that_does_not_stay_as_it_was_when_timing_began_is_marked(
    alive: list[float], allocated: list[float], steady: bool
) -> None:
    ready = Ready(1, 1, "", True, {"slots_alive": 100, "slots_allocated": 128})
    held = [{"slots_alive": a, "slots_allocated": b} for a, b in zip(alive, allocated, strict=True)]
    found = Timed(ready, [*[Turn([1.0], 1.0, after) for after in held], None])
    assert found.memory_steady is steady
    assert found.held_last == held[-1]
    assert Timed(ready, [None]).memory_steady is None
    assert Timed(ready, [None]).held_last == {}


def test_inside_the_trainer_the_stream_goes_on_where_filling_stopped(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from bench.clock import through_trainer
    from bench.spec import CellSpec
    from tasks.stream_module import StreamModule

    read: list[torch.Tensor] = []
    weights: list[torch.Tensor] = []
    step = StreamModule.training_step

    def training_step(self: StreamModule, batch: Any, number: int) -> None:
        read.append(batch.position["byte"])
        step(self, batch, number)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()]))

    class Coordinator:
        """Wants a turn of two steps, and then no more."""

        def __init__(self) -> None:
            self.heard: list[Any] = []
            self.words = [2, None]

        def send(self, answer: Any) -> None:
            self.heard.append(answer)

        def recv(self) -> int | None:
            return self.words.pop(0)

    monkeypatch.setattr(StreamModule, "training_step", training_step)
    coordinator: Any = Coordinator()
    cell = CellSpec.from_json(tiny.spec(field.text, "transformer_xl").to_json())
    through_trainer.serve(cell, None, torch.device("cpu"), coordinator, "proof", 1)
    assert [type(answer) for answer in coordinator.heard] == [Ready, Turn]
    first = read[0] - 8
    start = tiny.enwik8.training_source(
        tiny.enwik8.Settings(path=field.text), tiny.TrainSettings(batch_size=4, block_length=8), 0, range(4)
    ).start()["byte"]
    assert torch.equal(first, start + 2 * 8), "two blocks have filled 12 slots"
    assert all(torch.equal(first, after) for first, after in itertools.pairwise(weights))


def test_a_checkpoints_weights_are_those_that_are_measured(field: Field, tmp_path: Path) -> None:
    cell = tiny.spec(field.text, "transformer_xl")
    damaged = tmp_path / "best.ckpt"
    damaged.write_bytes(b"nothing")
    answer = ask(Order(cell.to_json(), "train memory", damaged))
    assert isinstance(answer, Failure)
    assert "best.ckpt is damaged" in answer.reason


def test_no_process_is_left_when_the_coordinator_is_interrupted(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = rounds.Contestant.start

    def remember(self: rounds.Contestant) -> Any:
        answer = start(self)
        assert self._process is not None
        assert self._process.pid is not None
        started.append(self._process.pid)
        return answer

    def tell(line: str) -> None:
        if line.startswith("round 2"):
            raise KeyboardInterrupt

    monkeypatch.setattr(rounds.Contestant, "start", remember)
    with pytest.raises(KeyboardInterrupt):
        run({"a": field.order(), "b": field.order()}, QUICK, tell)
    assert len(started) == 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
