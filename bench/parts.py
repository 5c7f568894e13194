"""The tasks and methods of a study, imported, each with what it needs to be planned.

Their files may come from anywhere. Whatever goes wrong in one, when it is imported or when a function of it is called,
becomes a SettingsError that names the file and the line: one bad file must not look like a fault of the harness, nor
end a run as if nothing had been asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from models.errors import SettingsError
from models.registry import Registry


@dataclass(frozen=True)
class Part:
    """A task or a method, imported."""

    section: str
    """The dotted prefix of its settings: ``task.<id>`` or ``method.<id>``."""
    file: Path
    card: dict[str, Any]
    module: ModuleType
    settings: type[Any]

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of its module.

        Raises:
            SettingsError, ValueError: as the function does, which is how it refuses settings.
            SettingsError: naming file and line, for whatever else it raises.
        """
        with blamed(self.section, f"its function {function} fails", self.file, passing=(ValueError,)):
            return getattr(self.module, function)(*arguments)


def load_part(registry: Registry, name: str) -> Part:
    """Imports a task or a method. Raises SettingsError where that fails, or where it is not complete."""
    section, file = f"{registry.kind}.{name}", registry.source(name)
    card = registry.card(name)
    with blamed(section, "cannot be imported", file):
        module = registry.load(name)
    settings = getattr(module, "Settings", None)
    guide = "docs/add-a-method.md shows one."
    if not (isinstance(settings, type) and is_dataclass(settings)):
        raise SettingsError(section, "its module has no dataclass Settings", guide, file.name)
    has_method = hasattr(module, "mixer_class") or isinstance(getattr(module, "Method", None), type)
    if registry.kind == "method" and not has_method:
        raise SettingsError(section, "its module has no class Method", guide, file.name)
    return Part(section, file, card, module, settings)


@contextmanager
def blamed(section: str, problem: str, file: Path, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Within it, whatever is raised becomes a SettingsError about `section` that names `file` and the line in it.

    Also SystemExit: a file that leaves when it is imported would end the run with its own exit code. SettingsError,
    KeyboardInterrupt and what `passing` names go through.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, (SettingsError, *passing)):
            raise
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        remedy = f"Correct {file.name}."
        if isinstance(error, ImportError):
            remedy = f"Install what it needs, or leave it out with --{section.partition('.')[0]}s."
        raise SettingsError(section, f"{problem}: {what}", remedy, _place(error, file)) from error


def _place(error: BaseException, file: Path) -> str:
    """The file's name, with the innermost line of it that the error went through."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    if line is None and isinstance(error, SyntaxError) and error.filename and Path(error.filename) == file:
        line = error.lineno
    return file.name if line is None else f"{file.name}, line {line}"
