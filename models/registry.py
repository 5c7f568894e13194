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

from models.errors import SettingsError
from models.nearest import nearest


def read_card(path: Path) -> dict[str, Any] | None:
    """The literal assigned to ``CARD`` in a source file, with the docstring's first line as ``about``.

    Returns None where the file has no ``CARD``. Raises SettingsError where ``CARD`` is not a literal dictionary or the
    file does not parse.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    except SyntaxError as error:
        raise SettingsError(
            path.name, f"does not parse: {error.msg}, line {error.lineno}", "Correct the file."
        ) from error
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="CARD")], value=value)
                | ast.AnnAssign(target=ast.Name(id="CARD"), value=ast.expr() as value)
            ):
                try:
                    card = ast.literal_eval(value)
                except ValueError as error:
                    raise SettingsError(
                        f"{path.name}:{node.lineno}", "CARD is not a literal", "Write it as a plain dictionary."
                    ) from error
                if not isinstance(card, dict):
                    raise SettingsError(
                        f"{path.name}:{node.lineno}", "CARD is not a dictionary", "Write it as a plain dictionary."
                    )
                about = (ast.get_docstring(tree) or "").strip().splitlines()
                return {**card, "about": about[0] if about else ""}
    return None


class Registry:
    """The modules of one kind.

    Args:
        kind: what the modules are, for messages: ``method`` or ``task``.
        package: the package that holds them.
        folder: the package's folder.
        required: keys that every card must have.
    """

    def __init__(self, kind: str, package: str, folder: Path, required: tuple[str, ...]) -> None:
        self.kind, self.package, self.folder, self.required = kind, package, folder, required
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
        """What the module says of itself, read without importing it. SettingsError for unknown names, missing keys."""
        self.check(name)
        path = self._path(name)
        card = read_card(path) or {}
        missing = [key for key in self.required if key not in card]
        if missing:
            raise SettingsError(
                f"CARD in {path.name}", f"lacks {', '.join(missing)}", "docs/add-a-method.md lists the keys."
            )
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
    "method", "models", Path(__file__).parent, required=("title", "family", "paper", "impls", "colour", "marker")
)
