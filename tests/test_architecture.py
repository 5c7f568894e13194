"""The structure that docs/architecture.md draws: which package may import which, what stays light, names of files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MAY_IMPORT = {
    "models": ("models",),
    "tasks": ("tasks", "models"),
    "bench": ("bench", "tasks", "models"),
    "sweeps": ("sweeps", "bench", "models.errors", "models.nearest"),
    "reports": ("reports", "bench.store"),
}

# Modules of more than 400 lines, each with the reason why it holds one idea all the same.
LONG: dict[str, str] = {}

VAGUE = ("util", "utils", "helper", "helpers", "manager", "managers", "common", "misc")

# What takes long to import; `python -m bench` and the store load none of it before it is used.
HEAVY = {
    "jsonargparse",
    "matplotlib",
    "optuna",
    "pandas",
    "pytorch_lightning",
    "ray",
    "rich",
    "scipy",
    "torch",
    "wandb",
}


def modules(checkout: Path) -> list[Path]:
    return [path for package in MAY_IMPORT for path in sorted((checkout / package).rglob("*.py"))]


def imports(path: Path, checkout: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, in functions and for type checkers too."""
    package = list(path.relative_to(checkout).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package[: len(package) - level + 1] if level else []) + (
                    "." if level and module else ""
                )
                name = base + (module or "")
                # `from bench import store` imports bench.store, not all of bench.
                yield from ((node.lineno, f"{name}.{alias.name}" if "." not in name else name) for alias in names)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name


def test_arrows_between_packages_point_one_way(checkout: Path) -> None:
    wrong = [
        f"{path.relative_to(checkout)}:{line} imports {name}"
        for path in modules(checkout)
        for line, name in imports(path, checkout)
        if name.split(".")[0] in MAY_IMPORT
        and not f"{name}.".startswith(
            tuple(f"{allowed}." for allowed in MAY_IMPORT[path.relative_to(checkout).parts[0]])
        )
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import bench.cell", ["bench.cell"]),
        ("from bench import store", ["bench.store"]),
        ("from bench.store.frame import load", ["bench.store.frame"]),
        ("def f():\n    from torch import nn", ["torch.nn"]),
        ("from . import pages", ["reports.pages"]),
        ("from .pages import html", ["reports.pages"]),
        ("import importlib\nx = importlib.import_module('bench.cell')", ["importlib", "bench.cell"]),
    ],
)
def test_every_form_of_import_is_seen(tmp_path: Path, source: str, found: list[str]) -> None:
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "page.py"
    path.write_text(source, encoding="utf-8")
    assert [name for _, name in imports(path, tmp_path)] == found


def test_page_draws_every_package(checkout: Path) -> None:
    page = (checkout / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [package for package in MAY_IMPORT if f"{package}/" not in page] == []


def test_modules_of_over_400_lines_have_a_reason(checkout: Path) -> None:
    long = {
        str(path.relative_to(checkout))
        for path in modules(checkout)
        if len(path.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert long == set(LONG)


def test_files_are_named_after_what_they_hold(project_files: list[Path]) -> None:
    assert [path.name for path in project_files if set(path.stem.lower().split("_")) & set(VAGUE)] == []


def test_command_line_and_store_load_nothing_heavy(checkout: Path) -> None:
    names = ["bench.__main__"] + [
        ".".join(path.relative_to(checkout).with_suffix("").parts)
        for path in sorted((checkout / "bench" / "store").glob("*.py"))
    ]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout)) == set()
