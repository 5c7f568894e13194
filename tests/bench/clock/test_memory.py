"""The memory pass: the same to the byte every time, and made of what can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.cell import build_parts
from bench.clock import memory
from bench.clock.contestant import Failure, Order
from bench.clock.rounds import ask, ask_each
from models.registry import METHODS, load_file

tiny = load_file(Path(__file__).with_name("tiny_cells.py"))


@pytest.fixture
def text(tmp_path: Path) -> str:
    return str(tiny.write_text(tmp_path))


def measured(cell: Any, what: str, alive: float | None = None) -> dict[str, float]:
    answer = ask(Order(cell.to_json(), what, alive=alive))
    assert isinstance(answer, dict), answer
    return answer


@pytest.mark.slow
def test_two_processes_measure_the_same_to_the_byte(text: str) -> None:
    cell = tiny.spec(text, "expire_span", dropout=0.1)
    first, second = (measured(cell, "train memory") for _ in range(2))
    for name in ("static", "peak", "extra"):
        assert first[name] == second[name]
    assert first["extra"] == first["peak"] - first["static"] > 0
    assert first["resident"] > first["peak"]


@pytest.mark.slow
def test_passes_beside_each_other_measure_what_they_do_alone(text: str) -> None:
    orders = {
        name: Order(tiny.spec(text, name).to_json(), "train memory") for name in ("transformer_xl", "expire_span")
    }
    alone, beside = ask_each(orders, 1), ask_each(orders, 2)
    assert list(beside) == list(orders)
    for name in orders:
        for figure in ("static", "peak", "extra"):
            assert beside[name][figure] == alone[name][figure]
    assert alone["transformer_xl"]["peak"] != alone["expire_span"]["peak"]


@pytest.mark.slow
def test_a_pass_that_does_not_fit_beside_another_is_run_again_alone(text: str, tmp_path: Path) -> None:
    probe, lock = tiny.write_probe(tmp_path), str(tmp_path / "lock")

    def order(**settings: Any) -> Order:
        return Order(
            tiny.spec(text, "probe", probe, layers=1, settings={**settings, "lock": lock}).to_json(), "train memory"
        )

    told: list[str] = []
    answers = ask_each({"other": order(seconds=0.5), "large": order(seconds=0.3, deed="alone", at=2)}, 2, told.append)
    assert all(isinstance(answer, dict) for answer in answers.values()), answers
    assert sorted(told) == ["large", "large", "other"]


def count(cell: Any) -> tuple[int, int]:
    """Numbers and tensors of a cell's parameters."""
    parameters = list(build_parts(cell).model.parameters())
    return sum(parameter.numel() for parameter in parameters), len(parameters)


@pytest.mark.slow
def test_static_memory_is_weights_gradients_and_optimiser(text: str) -> None:
    numbers, tensors = count(tiny.spec(text, "transformer_xl"))
    of_adam = 4 * numbers + 4 * numbers + 2 * 4 * numbers + 4 * tensors  # two moments, and a step count for each tensor
    assert measured(tiny.spec(text, "transformer_xl"), "train memory")["static"] == of_adam
    of_adagrad = 3 * 4 * numbers + 4 * tensors  # one sum
    assert measured(tiny.spec(text, "transformer_xl", optimiser="adagrad"), "train memory")["static"] == of_adagrad
    assert measured(tiny.spec(text, "transformer_xl"), "evaluation memory")["static"] == 4 * numbers


@pytest.mark.slow
def test_a_layers_static_memory_has_gradients_of_the_layer_alone(text: str) -> None:
    cell = tiny.spec(text, "transformer_xl", layers=1)
    model = build_parts(cell).model
    assert model.shared is not None
    layer = sum(p.numel() for part in (model.layers()[0].mixer, model.shared) for p in part.parameters())
    found = measured(cell, "layer memory")
    assert found["static"] == 4 * (count(cell)[0] + layer)
    assert found["extra"] > 4 * 4 * 12 * 16, "at least the memory that the layer carries"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train memory", "evaluation memory", "layer memory"])
def test_extra_memory_grows_with_the_length_of_memory(text: str, what: str) -> None:
    cells = [
        tiny.spec(text, "transformer_xl", layers=1, settings={"memory_length": length}) for length in (16, 64, 256)
    ]
    extra = [measured(cell, what)["extra"] for cell in cells]
    rows = 2 if what.startswith("evaluation") else 4
    assert extra[1] - extra[0] >= rows * 48 * 16 * 4
    assert extra[2] - extra[1] >= rows * 192 * 16 * 4


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
def test_evaluation_needs_less_than_training(text: str, method: str) -> None:
    cell = tiny.spec(text, method, evaluation_batch_size=4)
    assert measured(cell, "evaluation memory")["peak"] < measured(cell, "train memory")["peak"]


@pytest.mark.slow
def test_what_expired_takes_no_memory(text: str) -> None:
    cell = tiny.spec(text, "expire_span", settings={"max_span": 300, "ramp": 8})
    whole, tenth = (measured(cell, "train memory", alive=alive) for alive in (1.0, 0.1))
    assert tenth["extra"] < 0.5 * whole["extra"]
    assert tenth["static"] == whole["static"]


def test_a_pass_says_nothing_on_the_coordinators_output(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    measured(tiny.spec(text, "transformer_xl"), "train memory")
    assert capfd.readouterr() == ("", "")


def test_a_pass_that_runs_out_of_memory_answers_so(text: str, tmp_path: Path) -> None:
    cell = tiny.spec(text, "probe", tiny.write_probe(tmp_path), settings={"deed": "memory", "at": 2})
    answer = ask(Order(cell.to_json(), "train memory"))
    assert isinstance(answer, Failure)
    assert (answer.status.value, answer.reason) == ("oom", "out of memory")


def test_a_resident_peak_that_cannot_be_reset_is_missing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bench.clock.workload import TrainingStep

    monkeypatch.setattr(memory, "reset_resident_peak", lambda: False)
    cpu = torch.device("cpu")
    found = memory.measure(lambda: TrainingStep(tiny.spec(text, "transformer_xl"), None, cpu), cpu)
    assert set(found) == {"static", "peak", "extra"}


def test_a_resident_peak_forgets_what_came_before_its_reset() -> None:
    large = b"x" * 200_000_000
    earlier = memory.resident_peak()
    del large
    assert memory.reset_resident_peak()
    later = memory.resident_peak()
    assert earlier is not None
    assert later is not None
    assert later < earlier - 150_000_000


def test_peaks_on_a_gpu_are_of_the_steps_that_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Allocator:
        """PyTorch's caching allocator, as far as it can be asked."""

        def __init__(self) -> None:
            self.allocated = self.peak = self.reserved = self.peak_reserved = self.retries = 0

        def take(self, size: int) -> None:
            self.allocated += size
            self.reserved = max(self.reserved, self.allocated)
            self.peak, self.peak_reserved = max(self.peak, self.allocated), max(self.peak_reserved, self.reserved)

        def empty_cache(self) -> None:
            self.reserved = self.allocated

        def reset(self, device: object) -> None:
            self.peak, self.peak_reserved = self.allocated, self.reserved

    held = Allocator()

    class Workload:
        """Weights of 30, filling that needs 1000 for a while, an optimiser of 40 from the first step on, a step 70."""

        def __init__(self) -> None:
            self.steps = 0
            held.take(30)

        def fill(self) -> None:
            held.take(1000)
            held.take(-1000)
            held.retries += 5

        def fetch(self) -> None:
            pass

        def step(self) -> None:
            held.take(0 if self.steps else 40)
            self.steps += 1
            held.retries += 1
            held.take(70)
            held.take(-70)

        def static_bytes(self) -> int:
            return held.allocated

    for name, found in {
        "empty_cache": held.empty_cache,
        "reset_peak_memory_stats": held.reset,
        "max_memory_allocated": lambda device: held.peak,
        "max_memory_reserved": lambda device: held.peak_reserved,
        "memory_stats": lambda device: {"num_alloc_retries": held.retries},
        "synchronize": lambda device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, found)
    make: Any = Workload
    figures = memory.measure(make, torch.device("cuda"))
    del figures["resident"]
    assert figures == {"static": 70, "peak": 140, "extra": 70, "reserved": 140, "retries": 3}


def test_the_peak_is_the_largest_sum_while_it_is_watched() -> None:
    class Kind:
        name = "CPU"

    class Event:
        def __init__(self, name: str, start: int, size: int = 0, end: int = 0) -> None:
            self.values = name, start, size, end

        def name(self) -> str:
            return self.values[0]

        def start_ns(self) -> int:
            return self.values[1]

        def nbytes(self) -> int:
            return self.values[2]

        def end_ns(self) -> int:
            return self.values[3]

        def device_type(self) -> type[Kind]:
            return Kind

    allocations = [(0, 100), (5, 900), (6, -900), (10, 7), (12, 50), (13, -50), (14, 20), (21, 5000)]
    events = [Event("[memory]", start, size) for start, size in reversed(allocations)]
    assert memory._peak([Event(memory._MARK, 9, end=20), *events]) == 157
    assert memory._peak([Event(memory._MARK, 13, end=20), *events]) == 157, "what is held when it begins counts"
