"""Finds methods and tasks by file name, and loads them on demand.

A module is registered by standing in the registry's folder and assigning a literal ``CARD`` at top level; its id is
its file name. Cards are read from the source without importing it, so listing needs neither torch nor any method's
own dependencies, and one module that cannot be imported leaves the others usable. Modules from outside the tree
(plugins) are loaded by path; ``sys.path`` stays as it is.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from models.card import Kinds, problem
from models.errors import SettingsError
from models.nearest import nearest


def read_card(path: Path) -> dict[str, Any] | None:
    """The literal assigned to ``CARD`` in a source file, with the docstring's first line as ``about``.

    Returns None where the file has no ``CARD``. Raises SettingsError where ``CARD`` is not a literal dictionary or the
    file does not parse.
    """
    found = _find_card(path)
    if found is None:
        return None
    tree, value = found
    place = f"{path.name}, line {value.lineno}"
    try:
        card = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError) as error:
        raise SettingsError("CARD", "is not a literal", "Write it as a plain dictionary.", place) from error
    if not isinstance(card, dict):
        raise SettingsError("CARD", "is not a dictionary", "Write it as a plain dictionary.", place)
    about = (ast.get_docstring(tree) or "").strip().splitlines()
    return {**card, "about": about[0] if about else ""}


def _find_card(path: Path) -> tuple[ast.Module, ast.expr] | None:
    """A file's syntax tree and what it assigns to ``CARD``; None where it assigns nothing to it."""
    try:
        # As bytes, in which Python itself finds the encoding.
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        place = f"{path.name}, line {line}" if line else path.name
        why = f"the file does not parse: {getattr(error, 'msg', error)}"
        raise SettingsError("CARD", why, "Correct the file.", place) from error
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="CARD")], value=value)
                | ast.AnnAssign(target=ast.Name(id="CARD"), value=ast.expr() as value)
            ):
                return tree, value
    return None


class Registry:
    """The modules of one kind.

    Args:
        kind: what the modules are, for messages: ``method`` or ``task``.
        package: the package that holds them.
        folder: the package's folder.
        card_kinds: the keys that every card must have, and the kind of each value.
    """

    def __init__(self, kind: str, package: str, folder: Path, card_kinds: Kinds) -> None:
        self.kind, self.package, self.folder, self.card_kinds = kind, package, folder, card_kinds
        self._plugins: dict[str, Path] = {}

    def _path(self, name: str) -> Path:
        return self._plugins.get(name, self.folder / f"{name}.py")

    def names(self) -> list[str]:
        """All ids, sorted; plugins included."""
        own = [path.stem for path in self.folder.glob("*.py") if read_card(path) is not None]
        return sorted({*own, *self._plugins})

    def check(self, name: str, key: str | None = None) -> None:
        """Raises SettingsError, with the nearest known name, where `name` is not registered."""
        path = self._path(name)
        if name.isidentifier() and path.is_file() and read_card(path) is not None:
            return
        raise SettingsError(key or f"--{self.kind}s", f"there is no {self.kind} {name!r}", nearest(name, self.names()))

    def card(self, name: str) -> dict[str, Any]:
        """What the module says of itself, read without importing it.

        Raises SettingsError for unknown names, and for a card that lacks a key or has a value of another kind.
        """
        self.check(name)
        path = self._path(name)
        card = read_card(path) or {}
        wrong = problem(card, self.card_kinds)
        if wrong:
            found = _find_card(path)
            place = f"{path.name}, line {found[1].lineno}" if found else path.name
            raise SettingsError("CARD", wrong, "docs/add-a-method.md lists the keys.", place)
        return card

    def load(self, name: str) -> ModuleType:
        """The module, imported if it was not. Raises SettingsError for unknown names; import errors pass through."""
        self.check(name)
        if name not in self._plugins:
            return importlib.import_module(f"{self.package}.{name}")
        return load_file(self._plugins[name])

    def add_plugin(self, path: Path) -> str:
        """Registers a module from outside the tree and returns its id, the file's name without ``.py``.

        Raises SettingsError where the file is missing, has no CARD, or would hide a module of the tree.
        """
        if not path.is_file():
            raise SettingsError("--plugin", f"there is no file {path}", "Give the path of a Python file.")
        if read_card(path) is None:
            raise SettingsError("--plugin", f"{path} has no CARD", "docs/add-a-method.md shows one.")
        name = path.stem
        if not name.isidentifier():
            raise SettingsError("--plugin", f"{path.name} is no Python name", "Use letters, digits and underscores.")
        if (self.folder / f"{name}.py").exists():
            raise SettingsError(
                "--plugin", f"{name} is the name of a module in {self.package}/", "Give the file another name."
            )
        self._plugins[name] = path
        return name

    def source(self, name: str) -> Path:
        """The file that defines `name`."""
        self.check(name)
        return self._path(name)


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_file(path: Path) -> ModuleType:
    """Imports a Python file by path under a name made from its content, once per content."""
    name = f"spanbench_plugin_{path.stem}_{content_hash(path)[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError("--plugin", f"{path} cannot be imported as Python", "Give it the ending .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


METHODS = Registry(
    "method",
    "models",
    Path(__file__).parent,
    card_kinds={"title": str, "family": str, "paper": str, "impls": list, "colour": str, "marker": str},
)
