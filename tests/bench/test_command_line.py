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


@pytest.mark.parametrize("words", ["bench list --json", "bench --help", "bench status docs/results/small-cpu"])
def test_a_reader_that_goes_away_is_no_traceback(checkout: Path, words: str) -> None:
    command = f"{sys.executable} -m {words} | true; exit ${{PIPESTATUS[0]}}"
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], cwd=checkout, env=buffered, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--dry-run", "--out", "/proc/foo"], "bench run: /proc/foo: No such file or directory."),
        (["run", "--dry-run", "--out", "README.md/x"], "bench run: README.md: "),
        (["run", "--dry-run", "--out", "."], "bench run: --out: . holds other files, and no study"),
        (["status", "bench/cell.py"], "bench status: bench/cell.py: there is no study"),
        (["status", ""], "bench status: .: there is no study"),
        (["data", "--url", "foo"], "bench data: --url: 'foo' is not an address"),
        (["data", "--url", "http://"], "bench data: --url: 'http://' is not an address"),
        (["data", "--url", "http://[::1"], "bench data: --url: 'http://[::1' is not an address"),
        (["data", "--url", "http://a b/c"], "bench data: --url: 'http://a b/c' is not an address"),
    ],
)
def test_wrong_path_or_address_is_one_line(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(checkout)
    before = sorted(checkout.iterdir())
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1
    assert sorted(checkout.iterdir()) == before


@pytest.mark.parametrize("out", ["", " "])
def test_study_without_a_name_is_wrong_usage(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "--dry-run", "--out", out])
    assert end.value.code == 2
    assert "--out: is empty" in capsys.readouterr().err


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
