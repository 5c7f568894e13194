"""Documents with labels: what is written, read again naively; and how a model reads and learns from whole ones."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone, BackboneSettings, build
from models.errors import SettingsError, Unsupported
from models.registry import METHODS, load_file
from models.state import detach
from tasks import document_labels
from tasks.document_labels import Settings, check, documents, evaluation_source, scorer, training_source
from tasks.document_module import DocumentModule
from tasks.document_step import begin, read_document
from tasks.labelled_documents import AFTER, BEFORE
from tasks.objectives import new_module
from tasks.randomness import uniform
from tasks.stream import StreamBatch, StreamData
from tasks.train_settings import TrainSettings

toy = load_file(Path(__file__).with_name("toy_training.py"))

SETTINGS = Settings(document_tokens=32, names=5, classes=3, fillers=4, mention=0.4, evaluation_labels=60)
TRAIN = TrainSettings(
    steps=6, batch_size=4, block_length=8, learning_rate=1e-2, validate_every=4, log_every=1, evaluation_batch_size=3
)


def batches(source: Any, count: int) -> list[StreamBatch]:
    position, found = source.start(), []
    for _ in range(count):
        found.append(source.read(position))
        position = found[-1].position
    return found


def test_labels_are_those_that_a_naive_reader_finds() -> None:
    words = documents(SETTINGS).words()
    sides = []
    for batch in batches(training_source(SETTINGS, TRAIN, 0, range(4)), 20):
        assert batch.distance is not None
        assert batch.kind is not None
        assert bool(batch.reset.all())
        for row in range(4):
            said = [words[token] for token in batch.inputs[row].tolist()]
            facts = {
                word.split("=")[0]: (place, int(word.split("=")[1])) for place, word in enumerate(said) if "=" in word
            }
            assert sorted(facts) == list("ABCDE"), "one fact of every name"
            for place, word in enumerate(said):
                scored = float(batch.weights[row, place])
                assert scored == (word in facts)
                if scored:
                    at, number = facts[word]
                    assert int(batch.targets[row, place]) == number
                    assert int(batch.distance[row, place]) == abs(place - at)
                    assert int(batch.kind[row, place]) == (BEFORE if at < place else AFTER)
                    sides.append(int(batch.kind[row, place]))
    assert sides.count(AFTER) / len(sides) == pytest.approx(0.5, abs=0.05)


def test_names_classes_fillers_and_places_are_drawn_uniformly_and_mentions_at_their_rate() -> None:
    settings = Settings(document_tokens=40, names=4, classes=3, fillers=5, mention=0.3)
    drawn = batches(training_source(settings, TRAIN, 0, range(16)), 60)
    tokens = torch.cat([batch.inputs for batch in drawn])
    weights = torch.cat([batch.weights for batch in drawn])
    counts = torch.bincount(tokens.flatten(), minlength=documents(settings).vocabulary).double()
    fillers, names, facts = torch.split(counts, [5, 4, 12])
    free = tokens.shape[0] * (40 - 4)
    assert float(weights.sum()) / free == pytest.approx(0.3, abs=0.01)
    assert float(fillers.sum()) / free == pytest.approx(0.7, abs=0.01)
    for kind in (fillers, names, facts):
        expected = kind.sum() / len(kind)
        assert float(((kind - expected) ** 2 / expected).sum()) < 40, "chi-squared of at most 11 degrees"
    places = (tokens >= 9).double().mean(0)
    assert float((places - 0.1).abs().max()) < 0.04


def test_no_document_is_in_two_splits_seeds_or_rows() -> None:
    sources = [training_source(SETTINGS, TRAIN, seed, range(4)) for seed in (0, 1)]
    sources += [evaluation_source(SETTINGS, TRAIN, split) for split in ("validation", "test")]
    read = [tuple(row.tolist()) for source in sources for batch in batches(source, 5) for row in batch.inputs]
    assert len(set(read)) == len(read)


def test_a_row_says_the_same_whatever_is_read_beside_it() -> None:
    together, alone = training_source(SETTINGS, TRAIN, 0, range(4)), training_source(SETTINGS, TRAIN, 0, range(2, 3))
    for whole, one in zip(batches(together, 3), batches(alone, 3), strict=True):
        assert torch.equal(whole.inputs[2:3], one.inputs)


def test_scores_tell_sides_and_distances_apart() -> None:
    (batch,) = batches(training_source(SETTINGS, TRAIN, 0, range(4)), 1)
    assert batch.kind is not None
    # Right where the fact stands before, wrong where it stands after.
    named = torch.where(batch.kind == BEFORE, batch.targets, (batch.targets + 1) % 3)
    count = scorer(SETTINGS, TRAIN)
    count.add(batch, functional.one_hot(named, 3).double(), torch.zeros(batch.targets.shape))
    scores = {(score.metric, score.context.get("distance")): score for score in count.scores()}
    scored = batch.weights > 0
    share = 100 * float((batch.kind[scored] == BEFORE).double().mean())
    assert scores["accuracy", None].value == pytest.approx(share)
    assert scores["accuracy_before", None].value == 100
    assert scores["accuracy_after", None].value == 0
    assert scores["accuracy_chance", None].value == pytest.approx(100 / 3)
    by_distance = {place: score for place, score in scores.items() if place[0].endswith("_by_distance")}
    blind = [score.value for (metric, _), score in by_distance.items() if "_chance_" in metric]
    assert blind == [pytest.approx(100 / 3)] * (len(by_distance) // 2)
    distances = [score for (metric, _), score in by_distance.items() if "_chance_" not in metric]
    assert sum(score.n for score in distances) == int(scored.sum())
    assert {score.value for score in distances} == {0.0, 100.0}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"document_tokens": 33}, "document_tokens"),
        ({"document_tokens": 8, "names": 8}, "document_tokens"),
        ({"classes": 1}, "classes"),
        ({"mention": 0.0}, "mention"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        check(Settings(**changed), TRAIN)


METHODS_READ: list[tuple[str, dict[str, Any]]] = [
    ("memory_transformer", {"slots": 6, "reading": "two_pass"}),
    ("memory_transformer", {"slots": 6}),
    ("expire_span", {"max_span": 20, "ramp": 4, "coefficient": 0.02, "noisy": True}),
    ("compressive", {"memory_length": 8, "compress_size": 8, "rate": 2, "compression": "conv"}),
    ("performer", {"redraw_every": 3}),
]


def make(method: str, settings: dict[str, Any], seed: int = 3) -> DocumentModule:
    torch.manual_seed(5)
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2)
    values = METHODS.load(method).Settings(**settings)
    encoder, head = document_labels.encoder(SETTINGS, 16), document_labels.head(SETTINGS, 16)
    model = build(method, values, backbone, TRAIN.block_length, encoder, head).double()
    made = new_module("documents", document_labels, SETTINGS, model, TRAIN, seed)
    assert isinstance(made, DocumentModule)
    return made


def label_by_hand(model: Backbone, row: Tensor, u: float) -> tuple[Tensor, Tensor]:
    """Logits [document, classes] of one document [document], and the mean auxiliary loss of its blocks."""
    parts = torch.split(row[None], TRAIN.block_length, dim=1)
    state = model.init_state(1)
    if model.readings() == 2:
        with torch.no_grad():
            for part in parts:
                state = model(part, state, u).state
        state = model.again(state)
    logits, losses = [], []
    for part in parts:
        output = model(part, state, u)
        state = detach(output.state)
        logits.append(output.y[0])
        losses.append(output.aux_loss)
    return torch.cat(logits), torch.stack(losses).mean()


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        pytest.param(*case, marks=[] if number == 0 else [pytest.mark.slow], id=f"{case[0]}-{case[1]}")
        for number, case in enumerate(METHODS_READ)
    ],
)
def test_training_and_scores_are_those_of_a_loop_over_documents(method: str, settings: dict[str, Any]) -> None:
    module = make(method, settings)
    model = copy.deepcopy(module.model).train()
    toy.fit(module, StreamData(document_labels, SETTINGS, TRAIN, seed=3))

    optimiser = torch.optim.Adam(model.parameters(), lr=TRAIN.learning_rate)
    for step, batch in enumerate(batches(training_source(SETTINGS, TRAIN, 3, range(4)), TRAIN.steps)):
        u = uniform(3, "step", step, "shared")
        loss = torch.zeros((), dtype=torch.double)
        for row in range(4):
            logits, auxiliary = label_by_hand(model, batch.inputs[row], u)
            nll = functional.cross_entropy(logits, batch.targets[row], reduction="none")
            loss = loss + (nll * batch.weights[row]).sum() / batch.weights.sum() + auxiliary / 4
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        for group in optimiser.param_groups:
            group["lr"] = TRAIN.learning_rate_at(step)
        optimiser.step()
        model.after_step()
    for (name, ours), theirs in zip(module.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9, msg=name)

    model.eval()
    right = total = 0
    with torch.no_grad():
        source = evaluation_source(SETTINGS, TRAIN, "test")
        assert source.blocks is not None
        for batch in batches(source, source.blocks):
            for row in range(TRAIN.evaluation_batch_size):
                logits, _ = label_by_hand(model, batch.inputs[row], 0.5)
                scored = batch.weights[row] > 0
                right += int((logits.argmax(-1) == batch.targets[row])[scored].sum())
                total += int(scored.sum())
    assert total >= SETTINGS.evaluation_labels
    trainer = toy.make_trainer(module)
    trainer.test(module, datamodule=StreamData(document_labels, SETTINGS, TRAIN, seed=3), verbose=False)
    assert module.scores[0].metric == "accuracy"
    assert module.scores[0].value == pytest.approx(100 * right / total)
    assert module.trained() == ("train_tokens", 6 * 4 * 32, "tokens")


def test_two_readings_see_what_comes_later_and_one_does_not() -> None:
    for settings, sees in (({"slots": 30, "reading": "two_pass"}, True), ({"slots": 30}, False)):
        model = make("memory_transformer", settings).model.eval()
        (batch,) = batches(training_source(SETTINGS, TRAIN, 0, range(1)), 1)
        other = batch.inputs[0].clone()
        other[-1] = (other[-1] + 1) % documents(SETTINGS).vocabulary
        with torch.no_grad():
            first, second = (label_by_hand(model, row, 0.5)[0] for row in (batch.inputs[0], other))
        assert bool((first[0] != second[0]).any()) == sees


def test_a_first_reading_takes_the_rows_in_the_groups_that_training_does() -> None:
    model = make("memory_transformer", {"slots": 6, "reading": "two_pass"}).model
    (batch,) = batches(training_source(SETTINGS, TRAIN, 0, range(4)), 1)
    rows: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[0]))
    in_groups, at_once = begin(model, batch, 0.5, groups=2), begin(model, batch, 0.5)
    rows.clear()
    read_document(model.train(), batch, 0.5, 2, torch.tensor(1.0), torch.Tensor.backward)
    handle.remove()
    assert rows == [2] * 16, "four blocks of two groups, twice"
    assert in_groups is not None
    assert at_once is not None
    for one, other in zip(in_groups, at_once, strict=True):
        for name in other:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-12)


def test_the_memory_of_the_last_document_is_in_no_checkpoint() -> None:
    module = make(*METHODS_READ[0])
    toy.fit(module, StreamData(document_labels, SETTINGS, TRAIN, seed=3))
    assert module.held()["slots_alive"] == 6
    assert module.resume_state()["carried"] == [None]
    assert module.held()["slots_alive"] == 6


def test_a_method_that_reads_twice_serves_documents_alone() -> None:
    model = make("memory_transformer", {"slots": 6, "reading": "two_pass"}).model
    with pytest.raises(Unsupported, match="twice"):
        new_module("streams", document_labels, SETTINGS, model, TRAIN, 0)


@pytest.mark.parametrize("at", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_exactly(at: int) -> None:
    data = StreamData(document_labels, SETTINGS, TRAIN, seed=3)
    whole = make(*METHODS_READ[0])
    logged = toy.fit(whole, data)
    stopper = toy.StopAt(at)
    with pytest.raises(toy.Stop):
        toy.fit(make(*METHODS_READ[0]), data, stopper)
    resumed = make(*METHODS_READ[0])
    resumed.load_resume_state(torch.load(io.BytesIO(stopper.saved), weights_only=True))
    assert [row for row in logged if row["step"] > at] == [row for row in toy.fit(resumed, data) if row["step"] > at]
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name
