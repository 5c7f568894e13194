"""`python -m bench list`: quick, complete, and the same for people and programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import presets
from models.registry import METHODS
from tasks.registry import TASKS


def listing(checkout: Path, *flags: str) -> list[str]:
    command = [sys.executable, "-m", "bench", "list", *flags]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.splitlines()


def test_last_line_lists_everything(checkout: Path) -> None:
    listed = json.loads(listing(checkout)[-1])
    assert [task["id"] for task in listed["tasks"]] == TASKS.names()
    assert [method["id"] for method in listed["methods"]] == METHODS.names()
    assert listed["presets"] == presets.names()
    assert {"id", "metric", "unit", "higher_is_better", "sizes"} <= set(listed["tasks"][0])
    assert {"id", "family", "impls"} <= set(listed["methods"][0])


def test_people_get_one_line_each(checkout: Path) -> None:
    lines = [line.split() for line in listing(checkout)[:-1]]
    for name in [*TASKS.names(), *METHODS.names(), *presets.names()]:
        assert [line[0] for line in lines if line].count(name) == 1
        assert next(len(line) for line in lines if line and line[0] == name) > 2


@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_programs_get_one_line(checkout: Path, flag: str) -> None:
    assert len(listing(checkout, flag)) == 1


def test_nothing_heavy_is_imported(checkout: Path) -> None:
    code = (
        "import sys; from bench.__main__ import main; main(['list', '--quiet']);"
        "heavy = {'torch', 'pytorch_lightning', 'jsonargparse', 'numpy', 'pandas', 'yaml', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_method_whose_dependency_is_missing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = METHODS.source("expire_span").read_text(encoding="utf-8")
    (tmp_path / "lame.py").write_text(source.replace("\nimport torch\n", "\nimport no_such_package\n", 1))
    monkeypatch.setattr(METHODS, "_plugins", {"lame": tmp_path / "lame.py"})
    assert "lame" in METHODS.names()
    assert METHODS.card("lame")["title"]
