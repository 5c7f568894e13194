"""Real cells, killed at random moments and in the middle of every kind of work, end as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from models.registry import load_file

hunted = load_file(Path(__file__).with_name("hunted_study.py"))
moments = load_file(Path(__file__).with_name("moments.py"))

METHODS = "full_attention+memory=none,transformer_xl,expire_span"
SETTINGS = """
    train.steps=60 train.validate_every=10 train.checkpoint_every=3 train.log_every=2 train.batch_size=4
    train.block_length=16 train.evaluation_batch_size=2 backbone.width=32 backbone.dropout=0.1
    clock.enabled=false wandb.mode=disabled
"""
CHOSEN = [
    (moments.TRAINING, hunted.ONLY_RUNNER),
    (moments.VALIDATION, hunted.BOTH),
    (moments.TEST, hunted.ONLY_CELL),
    (f"{moments.CHECKPOINT}, last.ckpt {moments.HALF}", hunted.BOTH),
    (f"{moments.CHECKPOINT}, last.ckpt {moments.WHOLE}", hunted.ONLY_RUNNER),
    (f"{moments.CHECKPOINT}, last.ckpt {moments.IN_PLACE}", hunted.BOTH),
    (f"{moments.CHECKPOINT}, best.ckpt {moments.HALF}", hunted.ONLY_RUNNER),
    (f"{moments.CHECKPOINT}, best.ckpt {moments.WHOLE}", hunted.BOTH),
    (f"{moments.CHECKPOINT}, best.ckpt {moments.IN_PLACE}", hunted.ONLY_RUNNER),
    (f"{moments.RESULT}, result.json {moments.HALF}", hunted.ONLY_RUNNER),
    (f"{moments.RESULT}, result.json {moments.WHOLE}", hunted.BOTH),
    (f"{moments.RESULT}, result.json {moments.IN_PLACE}", hunted.ONLY_CELL),
]
"""Where cells wait for a kill, and whom it meets; where it leaves a checkpoint, so that the cell goes on from that."""
RANDOM = [hunted.ONLY_RUNNER, hunted.ONLY_CELL, hunted.BOTH, hunted.ONLY_CELL] * 2
"""Whom the kills meet that come at any time."""
ATTEMPTS = 10
"""How often a kill is tried that hits nothing, or that finds its study at an end before a cell came where it waits."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study as the command line plans and runs it, unwatched, with validations and checkpoints close together."""
    folder = tmp_path_factory.mktemp("undisturbed")
    text = folder / "corpus.txt"
    text.write_bytes(" ".join(str(n * n) for n in range(1700)).encode())
    words = f"run --preset quick --tasks enwik8 --methods {METHODS} --jobs 2 --out {folder / 'study'} --set {SETTINGS}"
    assert main([*words.split(), f"task.enwik8.path={text}"]) == 0
    return folder / "study"


class Hunt:
    """Kills in one study after the other: when one has ended it is compared, and the next begins."""

    def __init__(self, folder: Path, undisturbed: Path, checkout: Path, seed: int) -> None:
        self.undisturbed, self.draws = undisturbed, random.Random(seed)
        self._studies = self._new_studies(folder, checkout)
        self.study = next(self._studies)
        self.ended = 0
        """Studies that have come to their end."""

    def _new_studies(self, folder: Path, checkout: Path) -> Iterator[Any]:
        for number in itertools.count():
            (folder / str(number)).mkdir()
            yield hunted.HuntedStudy(folder / str(number) / "study", self.undisturbed, checkout)

    def kill_once(self, moment: str | None, victim: str) -> Any:
        """One kill that hits a cell at work, at a moment or at any time."""
        for _ in range(ATTEMPTS):
            self.have_cells_at_work()
            if moment is None:
                time.sleep(self.draws.uniform(0.0, 2.5))
                cells = sorted(self.study.at_work())
            else:
                cells = self.wait_at(moment)
            if not cells:
                continue
            cell = self.draws.choice(cells)
            hit = self.study.kill(victim, cell)
            if victim == hunted.ONLY_CELL:
                self.check_verdict(cell)
            self.study.check_finished()
            self.study.resumable += hit.resumable
            if hit.phases:
                return hit
        pytest.fail(f"{ATTEMPTS} runners in vain: no cell could be killed at {moment or 'any moment'}")

    def have_cells_at_work(self) -> None:
        """Starts a runner if there is none, in a new study if this one has ended, until a cell is at work."""
        while not self.study.at_work():
            if not self.study.running():
                self.take_up()
            assert hunted.eventually(lambda: self.study.at_work() or not self.study.running(), 120), "no cell begins"

    def take_up(self) -> None:
        """Starts the next runner; if the last one came to the study's end, in the next study."""
        code = None if self.study.runner is None else self.study.runner.returncode
        assert code in (None, 0, 1, -signal.SIGKILL), self.study.output.read_text()
        if code == 0:
            self.compare()
            self.study = next(self._studies)
        self.study.start()

    def wait_at(self, moment: str) -> list[str]:
        """Has a cell wait at a moment; none where the runner ended before one came there."""
        moments.ask_to_stop(self.study.told, moment)
        assert hunted.eventually(lambda: self.study.waiting() or not self.study.running(), 120), moment
        moments.withdraw(self.study.told, moment)
        return list(self.study.waiting())

    def check_verdict(self, cell: str) -> None:
        """A cell that was killed under its living runner has failed, unless its result was in place."""
        assert hunted.eventually(lambda: self.study.status(cell) is not None), "the runner does not judge a killed cell"
        result = json.loads((self.study.path / "cells" / cell / "result.json").read_bytes())
        died = moments.read(self.study.told)[cell]
        if died.name == f"{moments.RESULT}, result.json {moments.WHOLE}" and not died.waits:
            return  # in the system call, or right before or after it: the result may be there or not
        if died.phase == moments.ENDED or died.name == f"{moments.RESULT}, result.json {moments.IN_PLACE}":
            assert result["status"] == "ok"
        else:
            assert (result["status"], result["rows"]) == ("error", [])
            assert result["reason"].startswith("killed by SIGKILL")

    def finish(self) -> None:
        """Lets the last study come to its end."""
        while self.study.running() or self.study.runner.returncode != 0:
            if not self.study.running():
                self.study.start()
            assert self.study.runner.wait(timeout=120) in (0, 1), self.study.output.read_text()
        self.compare()

    def compare(self) -> None:
        """The study has come to its end as if nothing had happened, and its cells did go on from their checkpoints."""
        study = self.study
        study.check_finished()
        study.check_silence()
        study.check_left_behind()
        assert len(study.finished) == 3
        assert hunted.rows(study.path) == hunted.rows(self.undisturbed)
        assert hunted.curves(study.path) == hunted.curves(self.undisturbed)
        log = study.log()
        assert "starting again from step 0" not in log, "a damaged checkpoint was left"
        assert log.count("going on from step") >= study.resumable, "a cell began again that had a checkpoint"
        self.ended += 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_runner_or_cell_change_no_row_and_no_curve(
    checkout: Path, tmp_path: Path, undisturbed: Path
) -> None:
    hunt = Hunt(tmp_path, undisturbed, checkout, seed=20)
    kills = [*CHOSEN, *((None, victim) for victim in RANDOM)]
    hunt.draws.shuffle(kills)
    hits = []
    try:
        for moment, victim in kills:
            hit = hunt.kill_once(moment, victim)
            hits.append(hit)
            print(f"{len(hits):2} {'chosen' if moment else 'random'} {hit}", flush=True)
            assert moment is None or moment in hit.phases.values()
        hunt.finish()
    finally:
        hunt.study.end()
    phases = Counter(where.partition(",")[0] for hit in hits for where in hit.phases.values())
    print(f"cells killed in each phase: {dict(phases)}; studies ended and compared: {hunt.ended}")
    assert len(hits) == 20
    assert phases.keys() == set(moments.PHASES)
