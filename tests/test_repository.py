"""The checkout as a whole: documents that keep their word, files that stand alone, nothing that does not belong."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
LIMIT = 40_000_000  # bytes of all files: results of long studies are committed, checkpoints are not

TEXT = {".cff", ".csv", ".in", ".json", ".lock", ".md", ".py", ".svg", ".toml", ".yaml", ".yml", ""}


@pytest.fixture(scope="module")
def texts(project_files: list[Path]) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in project_files if path.suffix in TEXT}


@pytest.fixture(scope="module")
def sources(texts: dict[Path, str]) -> dict[Path, str]:
    return {path: text for path, text in texts.items() if path.suffix == ".py"}


def test_licence_is_the_published_text(checkout: Path) -> None:
    assert hashlib.sha256((checkout / "LICENSE").read_bytes()).hexdigest() == APACHE_2_SHA256


def test_checkout_stays_small(project_files: list[Path]) -> None:
    assert sum(path.stat().st_size for path in project_files) < LIMIT


CELL = "docs/results/small-cpu/cells/enwik8-4M--full_attention--s0--bd719f85"
MADE_HERE = [
    *("runs/quick/manifest.json", "data/enwik8", "data/enwik8.zip.part", "wandb/run", ".venv/bin/python"),
    *("bench/__pycache__/cell.cpython-311.pyc", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", ".hypothesis/x"),
    *("docs/results/small-cpu/manifest.lock", f"{CELL}/lock", f"{CELL}/heartbeat.json", f"{CELL}/log.txt"),
    *(f"{CELL}/checkpoints/best.ckpt", f"{CELL}/attempts/1/result.json"),
]
OURS = [
    *("bench/data.py", "tasks/data/README.md", "tests/bench/test_data.py", "docs/results/small-cpu/manifest.json"),
    *(f"{CELL}/result.json", f"{CELL}/metrics.jsonl", "docs/results/small-cpu/report/report.md"),
]


def test_git_ignores_what_is_made_here_and_nothing_of_the_project(checkout: Path, tmp_path: Path) -> None:
    """In a repository of its own: git knows no rule there but those of our file, and nothing is tracked already."""
    shutil.copy(checkout / ".gitignore", tmp_path)
    alone = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    alone = {key: value for key, value in alone.items() if key not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    subprocess.run(["git", "init", "-q", "--template="], cwd=tmp_path, env=alone, check=True)
    names = "\0".join([*MADE_HERE, *OURS])
    done = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin"], cwd=tmp_path, env=alone, input=names, capture_output=True, text=True
    )
    assert done.stdout.split("\0")[:-1] == MADE_HERE, done.stderr


def test_no_file_names_somebodys_machine(texts: dict[Path, str], checkout: Path) -> None:
    home = re.compile(r"/(home|root|Users|work)/\w")
    wrong = [
        f"{path.relative_to(checkout)}: {found[0]}" for path, text in texts.items() if (found := home.search(text))
    ]
    assert wrong == []


def test_every_module_opens_with_what_it_is(sources: dict[Path, str]) -> None:
    assert [path.name for path, text in sources.items() if not ast.get_docstring(ast.parse(text))] == []


def test_no_work_is_left_for_later(sources: dict[Path, str]) -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")  # in pieces, else this line would be found
    assert [path.name for path, text in sources.items() if mark.search(text)] == []


def test_links_between_documents_lead_somewhere(texts: dict[Path, str], checkout: Path) -> None:
    broken = []
    for path, text in texts.items():
        if path.suffix == ".md":
            links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
            broken += [
                f"{path.relative_to(checkout)}: {link}"
                for link in links
                if "://" not in link and not (path.parent / link).exists()
            ]
        if path.parent == checkout / "docs" or path.parent == checkout:
            named = re.findall(r"docs/results/[\w./-]*\w", text)
            broken += [f"{path.relative_to(checkout)}: {name}" for name in named if not (checkout / name).exists()]
    assert broken == []


def test_make_targets_that_documents_name_exist(texts: dict[Path, str], checkout: Path) -> None:
    listed = subprocess.run(["make", "help"], cwd=checkout, check=True, capture_output=True, text=True).stdout
    known = {line.split()[0] for line in listed.splitlines()}
    wrong = {
        f"{path.relative_to(checkout)}: make {target}"
        for path, text in texts.items()
        if path.suffix == ".md" and path.name != "log.md"
        for line in re.findall(r"`make ([a-z][^`]*)`|^\s*make ([a-z].*)$", text, re.MULTILINE)
        for target in re.findall(r"(?:^| )([a-z][a-z-]*)(?= |$)", re.split(r"\s+#|\s\w+=", "".join(line))[0])
        if target not in known
    }
    assert wrong == set()


MAKE = """#!/bin/sh
echo make "$@"
[ "$1" = test ] && echo "=== 40 passed in 1.00s ==="
[ "$1" != "$FAILS" ] || exit 3
"""
PYTHON = """#!/bin/sh
echo python "$@"
case "$*" in
  "-m pytest -m slow") echo "=== 2 passed in 1.00s ==="; [ -z "$SKIP" ] || echo "a test" >> "$SPANBENCH_SKIPS" ;;
esac
[ "$2" != "$FAILS" ] || exit 3
"""


def ci(folder: Path, checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs .ci/run with stand-ins for make and Python, which say what they are called with."""
    script, python, make = folder / ".ci" / "run", folder / ".venv" / "bin" / "python", folder / "make"
    for path, text in ((script, (checkout / ".ci" / "run").read_text()), (python, PYTHON), (make, MAKE)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SKIP": "", "FAILS": "-", **variables}
    return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, timeout=60)


def test_ci_runs_what_the_readme_tells_a_developer_to_run_and_the_slow_tests(checkout: Path, tmp_path: Path) -> None:
    done = ci(tmp_path, checkout)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    called = [line for line in lines if line.startswith(("make", "python"))]
    assert called == ["make test", "python -m pytest -m slow", "python -m pip check", "make lint typecheck"]
    assert lines[-1] == "42 passed, 0 failed"
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert [target for target in ("test", "lint", "typecheck") if f"`make {target}`" not in readme] == []


@pytest.mark.parametrize("what", ["test", "pytest", "pip", "lint"])
def test_ci_fails_where_a_part_of_it_does(checkout: Path, tmp_path: Path, what: str) -> None:
    assert ci(tmp_path, checkout, FAILS=what).returncode == 3


def test_ci_fails_where_a_test_was_skipped(checkout: Path, tmp_path: Path) -> None:
    done = ci(tmp_path, checkout, SKIP="1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Skipped, though none of them needs a GPU:", "a test"]


PACKAGES = {"PIL": "pillow", "yaml": "pyyaml"}  # imported under another name than installed


def test_every_package_that_is_imported_is_declared(sources: dict[Path, str], checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for listed in project["optional-dependencies"].values() for name in listed]
    declared = {re.split(r"[\[<>=!~;\s]", name)[0].lower() for name in [*project["dependencies"], *extras]}
    ours = {"bench", "models", "reports", "sweeps", "tasks"}
    undeclared = set()
    for path, text in sources.items():
        if path.relative_to(checkout).parts[0] not in ours:
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Import(names=names):
                    found = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    found = [module]
                case _:
                    continue
            for name in {name.split(".")[0] for name in found} - ours - set(sys.stdlib_module_names):
                if PACKAGES.get(name, name.replace("_", "-")) not in declared:
                    undeclared.add(f"{path.relative_to(checkout)}: {name}")
    assert undeclared == set()


def test_readme_says_which_python_before_it_uses_one(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert readme.index(".venv/bin/python") < readme.index("python -m bench")
    assert readme.index("source .venv/bin/activate") < readme.index("python -m bench")
    assert "conda activate spanbench" in readme
    assert "name: spanbench" in (checkout / "environment.yml").read_text(encoding="utf-8")


def test_every_interval_that_is_told_stands_in_a_committed_report(checkout: Path) -> None:
    """Results that are replaced may leave no figure of theirs behind in a text."""
    interval = re.compile(r"\d[\d,]*\.?\d* ± \d[\d.]*\d|\d[\d,.]*\d \[[\d., -]+\]")
    reports = [*checkout.glob("docs/results/*/report/report.md"), *checkout.glob("docs/results/*/*-contexts.md")]
    stored = {found for path in reports for found in interval.findall(path.read_text(encoding="utf-8"))}
    for name in ("README.md", "docs/findings.md"):
        told = interval.findall((checkout / name).read_text(encoding="utf-8"))
        assert len(told) > 3
        assert {found for found in told if found not in stored} == set(), name
