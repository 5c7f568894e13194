"""A hash of the code that a cell runs: of every module of ours that it imports, as syntax trees without docstrings.

Comments, layout and docstrings may change without making results stale; anything that is executed may not. The modules
are found by following the import statements in the sources, so nothing is imported to know it. The trees are written
out by hand, because `ast.dump` gives one text in Python 3.11 and another in 3.13.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.store import places
from models.checkout import CHECKOUT
from models.errors import SettingsError
from models.registry import read_card
from tasks.objectives import OBJECTIVES

PACKAGES = ("models", "tasks", "bench", "sweeps", "reports")


def cell_fingerprint(spec: Mapping[str, Any], cell_module: Path | None = None, checkout: Path = CHECKOUT) -> str:
    """The fingerprint of today's code for one cell: of its task, its method and what trains them.

    Args:
        spec: the cell's located spec as JSON data, see `places.py`.
        cell_module: the file of the function that runs the cell; bench/cell.py if not given.
        checkout: the folder that holds our packages.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError, SyntaxError: one of the modules is not there or does not parse.
    """
    plugins = {(plugin["kind"], plugin["id"]): checkout / plugin["path"] for plugin in spec.get("plugins", [])}
    task = plugins.get(("task", spec["task"]), checkout / "tasks" / f"{spec['task']}.py")
    method = plugins.get(("method", spec["method"]), checkout / "models" / f"{spec['method']}.py")
    return fingerprint(
        [cell_module or checkout / "bench" / "cell.py", task, method, *_learning(task, checkout)], checkout
    )


def _learning(task: Path, checkout: Path) -> list[Path]:
    """The module that a task's card has loaded by name, so that no import statement tells of it."""
    try:
        card = read_card(task) or {}
    except SettingsError:
        return []  # the task does not parse, which is found out next, or has a card that no cell can be built from
    name = OBJECTIVES.get(str(card.get("objective")))
    return [checkout / "tasks" / f"{name}.py"] if name else []


def clock_fingerprint(spec: Mapping[str, Any], checkout: Path = CHECKOUT) -> str:
    """The fingerprint of today's code that measures a cell's time and memory: the clock's, then the cell's own.

    Args, raises: as `cell_fingerprint`.

    Returns:
        128 hexadecimal digits.
    """
    clock = checkout / "bench" / "clock"
    return fingerprint([clock / "contestant.py", clock / "through_trainer.py"], checkout) + cell_fingerprint(spec)


class Today:
    """`cell_fingerprint` for many cells at one moment: each pair of task and method is looked up once.

    Args:
        study_dir: the study that the cells' specs are stored in, which knows where their plugins are.
    """

    def __init__(self, study_dir: Path) -> None:
        self._study_dir = study_dir
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, spec: Mapping[str, Any]) -> str:
        """The fingerprint of one cell. Raises as `cell_fingerprint` does."""
        return self._look_up(cell_fingerprint, spec)

    def of_the_clock(self, spec: Mapping[str, Any]) -> str:
        """The fingerprint of what measures one cell. Raises as `clock_fingerprint` does."""
        return self._look_up(clock_fingerprint, spec)

    def _look_up(self, make: Callable[[Mapping[str, Any]], str], spec: Mapping[str, Any]) -> str:
        key = (make.__name__, repr((spec["task"], spec["method"], spec.get("plugins"))))
        if key not in self._known:
            self._known[key] = make(places.located(spec, self._study_dir))
        return self._known[key]


def fingerprint(roots: Iterable[Path], checkout: Path = CHECKOUT) -> str:
    """A hash over the modules at `roots` and all modules of ours that they import, directly or not.

    Args:
        roots: paths of source files, in the checkout or plugins from anywhere.
        checkout: the folder that holds our packages.
    """
    modules = closure(roots, checkout)
    lines = [f"{name} {_parsed(path)[0]}\n" for name, path in sorted(modules.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def closure(roots: Iterable[Path], checkout: Path = CHECKOUT) -> dict[str, Path]:
    """The modules of ours that `roots` import, and `roots`: dotted name to path; a plugin's is its file's name."""
    found: dict[str, Path] = {}
    looked_for: set[str] = set()
    waiting = [(_name(Path(root), checkout), Path(root)) for root in roots]
    while waiting:
        name, path = waiting.pop()
        if name in found:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _parsed(path)[1]:
            absolute = _absolute(imported, package)
            parts = absolute.split(".")
            if parts[0] in PACKAGES:
                # Importing a.b.c runs a and a.b as well.
                for end in range(1, len(parts) + 1):
                    dotted = ".".join(parts[:end])
                    if dotted in looked_for:
                        continue
                    looked_for.add(dotted)
                    source = _source(dotted, checkout)
                    if source is not None:
                        waiting.append((dotted, source))
    return found


def _name(path: Path, checkout: Path) -> str:
    """The dotted name of a source file."""
    try:
        parts = path.resolve().relative_to(checkout.resolve()).with_suffix("").parts
    except ValueError:
        parts = ()
    if not parts or parts[0] not in PACKAGES:
        return f"plugin:{path.stem}"
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _source(dotted: str, checkout: Path) -> Path | None:
    """The file of a module of ours; None where the name is not a module's (but, say, a function's)."""
    base = checkout.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _absolute(imported: str, package: str) -> str:
    """An imported name with its leading dots, if any, resolved against the package it stands in."""
    name = imported.lstrip(".")
    level = len(imported) - len(name)
    if level == 0:
        return name
    base = package.split(".")[: len(package.split(".")) - (level - 1)]
    return ".".join([*base, name] if name else base)


def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    state = path.stat()
    return _parse(path, state.st_mtime_ns, state.st_size)


@functools.cache
def _parse(path: Path, _changed: int, _size: int) -> tuple[str, tuple[str, ...]]:
    """The hash of a source file's tree, and the names it imports, relative ones with their dots."""
    tree = ast.parse(path.read_bytes(), filename=path.name)
    text = "".join(_written(tree))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), tuple(sorted(set(_imports(tree))))


def _imports(node: ast.AST) -> Iterator[str]:
    """Names imported anywhere in a tree, in functions too; not those for type checkers only."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = "." * level + (module or "")
            yield base
            yield from (f"{base}.{alias.name}" if module else f"{base}{alias.name}" for alias in names)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=orelse):
            for statement in orelse:
                yield from _imports(statement)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imports(child)


def _written(value: Any) -> Iterator[str]:
    """A tree as text: fields that are empty are left out, so that a newer Python's additional fields change nothing."""
    if isinstance(value, ast.Constant):
        yield f"{type(value.value).__name__}:{value.value!r}"
    elif isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name in value._fields:
            content = getattr(value, name, None)
            if isinstance(content, list):
                content = [item for item in content if not _is_docstring(item)]
            if content is not None and content != [] and not isinstance(content, ast.expr_context):
                yield f"{name}="
                yield from _written(content)
                yield ","
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _written(item)
            yield ","
        yield "]"
    else:
        yield repr(value)


def _is_docstring(node: Any) -> bool:
    """Whether a statement is nothing but a string: a docstring, or what documents a field below it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
