"""Out of memory is a result: of the cell that asked for too much, and of no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.executors import memory_cgroup, memory_limit, process
from bench.executors.jobs import Job
from bench.out_of_memory import is_out_of_memory
from bench.spec import CellSpec
from bench.store.cell_folder import CellFolder


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_allocators_failure_is_out_of_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("not enough memory"), OSError(28)]
)
def test_other_errors_are_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_cells_share_four_fifths_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_cgroup, "field", lambda path, name: 1000 if name == "MemAvailable" else None)
    monkeypatch.setattr(memory_cgroup, "free", lambda: None)
    assert [memory_limit.default(jobs) for jobs in (1, 4)] == [800, 200]
    monkeypatch.setattr(memory_cgroup, "free", lambda: 500)
    assert memory_limit.default(1) == 400, "a container's limit is lower than what its machine has"
    monkeypatch.setattr(memory_cgroup, "field", lambda path, name: None)
    monkeypatch.setattr(memory_cgroup, "free", lambda: None)
    assert memory_limit.default(1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such limits")
def test_over_its_limit_an_allocation_fails_and_the_process_goes_on(checkout: Path) -> None:
    code = """
import torch
from bench.executors import memory_limit
from bench.out_of_memory import is_out_of_memory
from bench.spec import CellSpec
memory_limit.apply(200_000_000)
held = torch.ones(25_000_000)
try:
    torch.ones(50_000_000)
except Exception as error:
    assert is_out_of_memory(error), error
    print("out of memory")
del held
print(torch.ones(40_000_000).sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["out", "of", "memory", "40000000.0"]


@pytest.mark.parametrize(("accelerator", "gpus", "applies"), [("cpu", 1, True), ("auto", 0, True), ("auto", 1, False)])
def test_the_limit_holds_for_every_cell_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str, gpus: int, applies: bool
) -> None:
    applied: list[int] = []
    monkeypatch.setattr(memory_limit, "apply", applied.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    job = Job("a", tmp_path, {"trainer": {"accelerator": accelerator}}, memory_limit=7)
    monkeypatch.setattr(CellSpec, "from_json", lambda *_: _Spec(accelerator))
    monkeypatch.setattr(process, "use_threads", lambda threads: None)

    class Reached(BaseException):
        """What comes after the limit is another test's."""

    def note(*_: Any) -> None:
        raise Reached

    monkeypatch.setattr(process, "_note", note)
    on_cpu = process.device_lock(job.spec).device == "cpu"
    with pytest.raises(Reached):
        process._run(job, CellFolder(tmp_path), None, on_cpu)  # type: ignore[arg-type]
    assert applied == ([7] if applies else [])


class _Spec:
    threads = 1

    def __init__(self, accelerator: str) -> None:
        self.trainer = {"accelerator": accelerator}


CONFIG = """
about: two cells, one of which needs more memory than it may have
memory_limit_gb: 0.3
clock: {enabled: false}
tasks:
  enwik8:
    task: {path: TEXT}
    backbone: {layers: 1, width: 16, feedforward: 16, heads: 2}
    train: {steps: 2, batch_size: 64, block_length: 64, validate_every: 2}
    methods:
      transformer_xl: {memory_length: 64}
      full_attention: {max_span: 4096, impl: reference}  # which keeps all scores
"""


@pytest.mark.slow
def test_a_cell_out_of_memory_is_a_result_and_its_neighbour_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "tight.yaml", tmp_path / "tight"
    text = tmp_path / "corpus.txt"
    text.write_bytes(b"the quick brown fox jumps over the lazy dog; " * 900)
    config.write_text(CONFIG.replace("TEXT", str(text)))

    def run(*flags: str) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
        code = main(["run", "--config", str(config), "--out", str(out), "--jobs", "2", *flags])
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        results = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cells/*/result.json")}
        by_method = {name.split("--")[1]: result for name, result in results.items()}
        return code, said, by_method

    code, said, results = run()
    assert (code, said["counts"]) == (1, {"ok": 1, "oom": 1})
    assert results["transformer_xl"]["status"] == "ok"
    assert results["full_attention"]["status"] == "oom"
    assert "allocate memory" in results["full_attention"]["reason"]
    assert results["full_attention"]["rows"] == [], "a missing value stays missing"
    assert "oom" in Path(said["report"]).read_text()
    assert run()[2] == results, "a result stays until it is asked for"
    code, said, results = run("--retry", "oom", "--set", "memory_limit_gb=4")
    assert (code, said["counts"]) == (0, {"ok": 2})
    assert results["full_attention"]["attempt"] == 2
    assert results["transformer_xl"]["attempt"] == 1
