"""Whether the tests would notice: each fault of `faults.py` makes the test that is named beside it fail.

A fault is applied to a copy of the project, never to the checkout, and the named test runs there in a process of its
own. It must end as a test that failed: a module that cannot be imported or a test that is gone catches nothing.
"""

from __future__ import annotations

import ast
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from models.registry import load_file

faults = load_file(Path(__file__).with_name("faults.py"))
ALL = [pytest.param(fault, id=fault.name) for fault in faults.FAULTS]
LIMIT_S = 120  # for a test that takes a second or two by itself: others run beside it
FAILED = 1  # pytest's exit code where tests ran and some failed


@dataclass(frozen=True)
class Done:
    """A run of pytest."""

    code: int
    output: str

    def caught(self, fault: Any) -> bool:
        """Whether the fault's test ran and failed."""
        lines = [line for line in self.output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return self.code == FAILED and [line.startswith(f"FAILED {fault.caught_by}") for line in lines] == [True]


class Project:
    """A copy of the project in which tests can be run.

    Args:
        root: the copy.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pytest: subprocess.Popen[str] | None = None

    def run(self, *tests: str, limit_s: float = LIMIT_S) -> Done:
        """Runs tests by their ids, until one fails."""
        # Without plugins that take longer to import than a test to run, and that no named test needs.
        plugins = [word for name in ("cacheprovider", "hypothesispytest", "anyio") for word in ("-p", f"no:{name}")]
        options = ["-q", "-x", "-n", "0", "-m", "", "--timeout", "0", "--tb", "short", *plugins]
        process = self._ready()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([*options, *tests]) + "\n")
        process.stdin.flush()
        answered, _, _ = select.select([process.stdout], [], [], limit_s)
        if not answered:
            self.stop()
            pytest.fail(f"no end after {limit_s:g} s: {' '.join(tests)}")
        return Done(*json.loads(process.stdout.readline()))

    def with_fault(self, fault: Any) -> Done:
        """Runs a fault's test with the fault in place, and takes it out again."""
        path = self.root / str(fault.file)
        sound = path.read_bytes()
        path.write_text(mutated(sound.decode(), fault), encoding="utf-8")
        try:
            return self.run(fault.caught_by)
        finally:
            path.write_bytes(sound)

    def _ready(self) -> subprocess.Popen[str]:
        if self._pytest is None:
            # The options of the run that this is part of, and where CI counts what it skips, are not the copy's. Nor is
            # CI, in which pytest shows differences whole: those of two long lists take it minutes.
            kept = {
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PYTEST_", "SPANBENCH_")) and name not in ("CI", "BUILD_NUMBER")
            }
            # No bytecode: a fault may be as long as what it replaces, and as old.
            own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DEBUG_TEMPROOT": tempfile.gettempdir()}
            self._pytest = subprocess.Popen(
                [sys.executable, "-P", Path("tests", "mutants", "ready_pytest.py")],
                cwd=self.root,
                env={**kept, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        return self._pytest

    def stop(self) -> None:
        """Ends all processes."""
        if self._pytest is not None:
            os.killpg(self._pytest.pid, signal.SIGKILL)
            self._pytest.communicate()
            self._pytest = None


def mutated(source: str, fault: Any) -> str:
    """A module's text with a fault in it. Fails the test where the fault no longer fits the text."""
    count = source.count(fault.old)
    assert count == 1, f"{fault.file} has {fault.old!r} {count} times: the fault must be fitted to today's code"
    return source.replace(fault.old, fault.new)


@pytest.fixture(scope="module")
def project(checkout: Path, project_files: list[Path]) -> Iterator[Project]:
    root = Path(tempfile.mkdtemp(prefix="mutants"))
    for path in project_files:
        name = path.relative_to(checkout)
        if name.parts[:2] != ("docs", "results"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / name)
    copy = Project(root)
    yield copy
    copy.stop()
    shutil.rmtree(root, ignore_errors=True)


def test_every_fault_fits_todays_code_and_names_a_test(checkout: Path) -> None:
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS) >= 20
    for fault in faults.FAULTS:
        source = (checkout / fault.file).read_text(encoding="utf-8")
        changed = mutated(source, fault)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), fault.name
        lines, before = changed.splitlines(), source.splitlines()
        assert len(before) - len(lines) in (0, 1), f"{fault.name}: one line is changed or taken out"
        file, test = fault.caught_by.split("::")
        assert f"def {test.split('[')[0]}(" in (checkout / file).read_text(encoding="utf-8"), fault.name


@pytest.mark.slow
def test_the_named_tests_pass_where_there_is_no_fault(project: Project) -> None:
    # One of each test's cases: what they are given differs, what they need of the project does not.
    cases = {fault.caught_by.partition("[")[0]: fault.caught_by for fault in faults.FAULTS}
    done = project.run(*cases.values(), limit_s=280)
    assert done.code == 0, done.output


@pytest.mark.slow
def test_a_change_that_is_no_fault_or_breaks_a_module_or_has_no_test_does_not_count_as_caught(project: Project) -> None:
    fault = next(fault for fault in faults.FAULTS if fault.file == "reports/statistics.py")
    assert project.with_fault(fault).caught(fault)
    for wrong in (
        replace(fault, new=fault.old),
        replace(fault, old="FEWEST = 3", new="raise ImportError"),
        replace(fault, caught_by=f"{fault.caught_by}_of_yesterday"),
    ):
        assert not project.with_fault(wrong).caught(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ALL)
def test_a_fault_is_caught(project: Project, checkout: Path, fault: Any) -> None:
    done = project.with_fault(fault)
    assert done.caught(fault), f"the tests do not notice that {fault.name}:\n{done.output}"
    assert (project.root / fault.file).read_bytes() == (checkout / fault.file).read_bytes()
