"""`python -m bench` itself: help without torch, exit codes, and no package of another project by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import commands, main

OURS = ["cell", "list", "run", "status"]


def bench(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_help_names_every_command_with_what_it_does(checkout: Path) -> None:
    done = bench("--help", cwd=checkout)
    assert done.returncode == 0
    for name, about in commands().items():
        assert any(line.split() == [name, *about.split()] for line in done.stdout.splitlines()), name
        assert len(about.split()) > 2, name
    assert set(OURS) <= set(commands())


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in OURS)], ids=" ".join)
def test_help_imports_neither_torch_nor_lightning(checkout: Path, words: list[str]) -> None:
    code = (
        f"import sys; from bench.__main__ import main\ntry:\n    main({words})\nexcept SystemExit as end:\n"
        "    heavy = {'torch', 'pytorch_lightning', 'jsonargparse', 'pandas', 'yaml'} & set(sys.modules)\n"
        "    sys.exit(f'imported: {heavy}' if heavy else end.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("words", [[], ["lisst"], ["list", "--jsn"], ["status"], ["run", "--retry", "never"]])
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_wrong_settings_are_exit_code_2_and_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--preset", "quik"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bench run: --preset: there is no preset 'quik'. Did you mean quick?")
    assert printed.err.count("\n") == 1


def test_a_reader_that_goes_away_is_no_traceback(checkout: Path) -> None:
    command = f"{sys.executable} -m bench list --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("sibling", ["models", "tasks", "sweeps", "reports"])
def test_package_of_another_folder_is_refused(checkout: Path, tmp_path: Path, sibling: str) -> None:
    (tmp_path / sibling).mkdir()
    (tmp_path / sibling / "__init__.py").write_text("raise SystemExit('the wrong package was imported')")
    done = bench("list", cwd=tmp_path, path=checkout)
    assert done.returncode == 2
    assert f"the package {sibling} would be imported from {tmp_path}" in done.stderr
    assert "wrong package" not in done.stderr


def test_it_runs_from_another_folder(checkout: Path, tmp_path: Path) -> None:
    assert bench("list", "--quiet", cwd=tmp_path, path=checkout).returncode == 0
