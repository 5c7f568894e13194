"""The fingerprint: changes with every module that the cell imports and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.fingerprint import cell_fingerprint, closure, fingerprint
from models.checkout import CHECKOUT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of four packages' modules, rooted in bench/cell.py."""
    files = {
        "bench/__init__.py": '"""The harness."""\n',
        "bench/cell.py": "import torch\n\nfrom tasks import text\n\n\ndef run():\n    import models.lazy\n",
        "bench/unused.py": "value = 1\n",
        "tasks/__init__.py": "",
        "tasks/text.py": "from . import words\nfrom .deep.near import thing\n",
        "tasks/words.py": "value = 1\n",
        "tasks/deep/__init__.py": "from ..above import value\n",
        "tasks/deep/near.py": "thing = 1\n",
        "tasks/above.py": "value = 1\n",
        "models/__init__.py": "",
        "models/lazy.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import models.types\n",
        "models/types.py": "value = 1\n",
        "elsewhere.py": "from models import extra\n",
        "models/extra.py": "value = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def change(path: Path, text: str) -> None:
    path.write_text(text)
    # Two writes within the clock's tick would look like one to a cache that goes by the time of change.
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def test_all_that_is_imported_counts_and_nothing_else(tree: Path) -> None:
    found = closure([tree / "bench" / "cell.py"], tree)
    assert set(found) == {
        "bench.cell",
        "tasks",
        "tasks.text",
        "tasks.words",
        "tasks.deep",
        "tasks.deep.near",
        "tasks.above",
        "models",
        "models.lazy",
    }


def test_a_plugin_counts_with_what_it_imports(tree: Path) -> None:
    assert set(closure([tree / "elsewhere.py"], tree)) == {"plugin:elsewhere", "models", "models.extra"}


@pytest.mark.parametrize(
    "name", ["bench/cell.py", "tasks/__init__.py", "tasks/words.py", "tasks/above.py", "models/lazy.py"]
)
def test_a_change_of_code_changes_it(tree: Path, name: str) -> None:
    before = fingerprint([tree / "bench" / "cell.py"], tree)
    change(tree / name, (tree / name).read_text() + "another = 2\n")
    assert fingerprint([tree / "bench" / "cell.py"], tree) != before


@pytest.mark.parametrize("name", ["bench/unused.py", "models/types.py", "elsewhere.py"])
def test_a_change_of_other_code_does_not(tree: Path, name: str) -> None:
    before = fingerprint([tree / "bench" / "cell.py"], tree)
    change(tree / name, "value = 2\n")
    assert fingerprint([tree / "bench" / "cell.py"], tree) == before


CODE = '''
class Thing:
    """What it is."""

    size: int = 1
    """How large it is."""

    def grow(self, by: float = 1.0, *, twice: bool = False) -> str:
        """Grows."""
        return f"{self.size + by!r:>{10}}" if not twice else None
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("How large it is.", "Its size.", True),
        ("What it is.", "Another text.", True),
        ("        return", "        # why\n\n        return", True),
        ("size: int = 1", "size: int = (\n        1\n    )", True),
        ("size: int = 1", "size: int = 2", False),
        ("size: int = 1", "size: int = 1.0", False),
        ("size: int = 1", "size: int = True", False),
        ("not twice", "twice", False),
        ("else None", "else ''", False),
        (">{10}", "<{10}", False),
        ("!r", "!s", False),
        ("by: float", "to: float", False),
        ("*, twice", "twice", False),
    ],
)
def test_docstrings_and_layout_do_not_count_and_meaning_does(tree: Path, old: str, new: str, same: bool) -> None:
    path = tree / "tasks" / "words.py"
    change(path, CODE)
    before = fingerprint([path], tree)
    assert old in CODE
    change(path, CODE.replace(old, new))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 5_000_000))
    assert (fingerprint([path], tree) == before) == same


def test_it_is_the_same_in_every_python(tree: Path) -> None:
    change(tree / "tasks" / "words.py", CODE)
    found = fingerprint([tree / "bench" / "cell.py", tree / "tasks" / "words.py"], tree)
    assert found == "50db837bf7024cbd2ca2d80b3c7531efbb4a7d4bdce001aa613052937b910d43"


def test_a_cells_code_is_its_task_its_method_and_what_trains_them(tree: Path) -> None:
    spec = {"task": "text", "method": "lazy", "plugins": []}
    before = cell_fingerprint(spec, checkout=tree)
    plugged = {
        **spec,
        "method": "elsewhere",
        "plugins": [{"kind": "method", "id": "elsewhere", "path": "elsewhere.py"}],
    }
    assert cell_fingerprint(plugged, checkout=tree) != before
    assert cell_fingerprint(spec, tree / "bench" / "unused.py", tree) != before
    with pytest.raises(OSError, match="missing"):
        cell_fingerprint({**spec, "method": "missing"}, checkout=tree)


def test_only_the_learning_that_the_tasks_card_names_counts(tree: Path) -> None:
    """It is loaded by name, so that results of streams outlive a change in how episodes are learned."""
    for name in ("stream_module", "episode_module"):
        (tree / "tasks" / f"{name}.py").write_text("value = 1\n")
    change(tree / "tasks" / "text.py", 'CARD = {"objective": "streams"}\n')
    spec = {"task": "text", "method": "lazy", "plugins": []}
    before = cell_fingerprint(spec, checkout=tree)
    change(tree / "tasks" / "episode_module.py", "value = 2\n")
    assert cell_fingerprint(spec, checkout=tree) == before
    change(tree / "tasks" / "stream_module.py", "value = 2\n")
    assert cell_fingerprint(spec, checkout=tree) != before
    change(tree / "tasks" / "text.py", "CARD = broken(\n")
    with pytest.raises(SyntaxError):
        cell_fingerprint(spec, checkout=tree)


def test_nothing_is_imported_to_know_it() -> None:
    code = (
        "import sys; from bench.store.fingerprint import cell_fingerprint;"
        "cell_fingerprint({'task': 'enwik8', 'method': 'full_attention', 'plugins': []});"
        "assert not {'torch', 'models.full_attention', 'tasks.enwik8', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)
