"""Real cells, killed at random moments, end as if nothing had happened."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

METHODS = "full_attention+memory=none,transformer_xl,expire_span"
KILLS = 20


def start(checkout: Path, study: Path, text: Path, more: str = "") -> subprocess.Popen[str]:
    """A runner of the study: small cells with validations and checkpoints close together."""
    arguments = f"""
        run --preset quick --tasks enwik8 --methods {METHODS} --jobs 2 --out {study} {more}
        --set task.enwik8.path={text} train.steps=400 train.validate_every=20 train.checkpoint_every=3 train.log_every=2
        train.batch_size=4 train.block_length=16 train.evaluation_batch_size=2 backbone.width=32 backbone.dropout=0.1
    """
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments.split()],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def descendants(process: int) -> list[int]:
    """All processes below one, itself not among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [process]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def lives(process: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_dead(processes: list[int]) -> bool:
    """Whether none of them lives."""
    return not any(lives(process) for process in processes)


def beating(study: Path, runner: subprocess.Popen[str], since: float) -> bool:
    """Whether a cell has been taken up since, or the runner has nothing left to do."""
    beats = [path.stat().st_mtime for path in study.glob("cells/*/heartbeat.json")]
    return runner.poll() is not None or any(beat > since for beat in beats)


def sizes(study: Path) -> dict[str, int]:
    """How long every learning curve is, in bytes."""
    return {path.parent.name: path.stat().st_size for path in study.glob("cells/*/metrics.jsonl")}


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Waits for a condition; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def curves(study: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every cell's learning curve, without times."""
    return {
        path.parent.name: [
            (record["step"], record["split"], record["metric"], record["value"])
            for record in map(json.loads, path.read_text().splitlines())
        ]
        for path in sorted(study.glob("cells/*/metrics.jsonl"))
    }


def quality(study: Path) -> dict[str, list[dict[str, object]]]:
    """Every cell's rows."""
    return {
        path.parent.name: json.loads(path.read_text())["rows"] for path in sorted(study.glob("cells/*/result.json"))
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_runner_or_cell_change_no_row_and_no_curve(checkout: Path, tmp_path: Path) -> None:
    text = tmp_path / "corpus.txt"
    text.write_bytes(" ".join(str(n * n) for n in range(4000)).encode())
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    output, _ = start(checkout, undisturbed, text).communicate()
    assert json.loads(output.splitlines()[-1])["counts"] == {"ok": 3}, output

    draws = random.Random(20)
    finished: dict[Path, bytes] = {}
    done = 0
    while done < KILLS:
        runner = start(checkout, killed, text)
        # Wait until a cell is taken up, then any moment of the next seconds: training, validation, checkpoint, result.
        assert eventually(functools.partial(beating, killed, runner, time.time())), "no cell was taken up"
        time.sleep(draws.uniform(0.0, 6.0))
        processes = descendants(runner.pid)
        if runner.poll() is not None:
            # The study ended between two kills: take one result away, so that there is something to kill again.
            next(iter(sorted(killed.glob("cells/*/result.json")))).unlink()
            finished.clear()
            continue
        victim = runner.pid if draws.random() < 0.5 or not processes else draws.choice(processes)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
        if victim == runner.pid:
            time.sleep(1.0)
            written = sizes(killed)
            # A fork server that was still importing when its runner died ends once it is through with that.
            assert eventually(functools.partial(all_dead, processes)), "a process lives on"
            assert sizes(killed) == written, "an orphan trained on after its runner was killed"
        runner.kill()
        runner.communicate()
        time.sleep(0.3)
        for path, content in finished.items():
            assert path.read_bytes() == content, "a finished result was touched"
        finished = {path: path.read_bytes() for path in killed.glob("cells/*/result.json")}

    # A cell whose death its runner lived to see has the result `error`; it is run again when asked for.
    output, _ = start(checkout, killed, text, "--retry failed").communicate()
    assert json.loads(output.splitlines()[-1])["counts"] == {"ok": 3}, output
    assert quality(killed) == quality(undisturbed)
    assert curves(killed) == curves(undisturbed)
