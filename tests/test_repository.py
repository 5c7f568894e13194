"""The checkout as a whole: documents that keep their word, files that stand alone, nothing that does not belong."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
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


@pytest.mark.parametrize("name", ["runs/quick/manifest.json", "data/enwik8", ".venv/bin/python", "x.part", "wandb/run"])
def test_git_ignores_what_is_made_here(checkout: Path, name: str) -> None:
    rules = (checkout / ".gitignore").read_text(encoding="utf-8").splitlines()
    top = f"/{name.split('/')[0]}/"
    assert top in rules or f"*{Path(name).suffix}" in rules


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


def test_ci_runs_what_the_readme_tells_a_developer_to_run(checkout: Path) -> None:
    script = (checkout / ".ci" / "run").read_text(encoding="utf-8")
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert "make test" in readme
    assert re.search(r"^[^#]*make test", script, re.MULTILINE)
