"""What the kernel says of a memory cgroup, read from files as both of its versions write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.executors import memory_cgroup
from bench.executors.kernel_kills import KernelKills

V1 = "sys/fs/cgroup/memory"
V2 = "sys/fs/cgroup"
STAT = "cache 4000\ninactive_file 7\ntotal_inactive_file 300\n"


def files(root: Path, contents: Mapping[str, str]) -> Path:
    """The kernel's files below a root."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def version_1(limit: int, usage: int, kills: int = 0, own: str = "/job/step") -> dict[str, str]:
    """A cgroup of version 1, as it is on systems that have a version 2 without controllers beside it."""
    folder = f"{V1}{own}"
    return {
        "proc/self/cgroup": f"9:name=systemd:/\n4:cpu,memory:{own}\n0::/\n",
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{usage}\n",
        f"{folder}/memory.stat": STAT,
        f"{folder}/memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    }


def version_2(limit: str, usage: int, kills: int = 0, own: str = "/user.slice/job") -> dict[str, str]:
    """A cgroup of version 2."""
    return {
        "proc/self/cgroup": f"0::{own}\n",
        f"{V2}{own}/memory.max": f"{limit}\n",
        f"{V2}{own}/memory.current": f"{usage}\n",
        f"{V2}{own}/memory.stat": "anon 100\ninactive_file 300\n",
        f"{V2}{own}/memory.events": f"low 0\nmax 12\noom 1\noom_kill {kills}\noom_group_kill 0\n",
    }


@pytest.mark.parametrize("contents", [version_1(1000, 600), version_2("1000", 600)])
def test_free_is_the_limit_without_what_is_used_and_not_just_cached(tmp_path: Path, contents: dict[str, str]) -> None:
    assert memory_cgroup.free(files(tmp_path, contents)) == 1000 - 600 + 300


def test_the_tightest_limit_above_counts(tmp_path: Path) -> None:
    outer = {f"{V2}/user.slice/memory.max": "900\n", f"{V2}/user.slice/memory.current": "850\n"}
    assert memory_cgroup.free(files(tmp_path, version_2("1000", 600) | outer)) == 50


def test_more_in_use_than_allowed_is_nothing_free(tmp_path: Path) -> None:
    assert memory_cgroup.free(files(tmp_path, version_2("100", 600))) == 0


def test_without_a_limit_or_a_cgroup_nothing_is_said(tmp_path: Path) -> None:
    assert memory_cgroup.free(tmp_path) is None
    assert memory_cgroup.kills(tmp_path) is None
    assert memory_cgroup.free(files(tmp_path, version_2("max", 600))) is None


def test_in_a_container_the_outermost_folder_is_its_own(tmp_path: Path) -> None:
    contents = version_1(1000, 600, kills=3, own="") | {"proc/self/cgroup": "4:memory:/docker/0123\n"}
    assert memory_cgroup.free(files(tmp_path, contents)) == 700
    assert memory_cgroup.kills(tmp_path) == 3


@pytest.mark.parametrize("contents", [version_1(1000, 600, kills=2), version_2("max", 600, kills=2)])
def test_the_cgroups_kills_are_counted_and_no_others(tmp_path: Path, contents: dict[str, str]) -> None:
    assert memory_cgroup.kills(files(tmp_path, contents | {"proc/vmstat": "oom_kill 40\n"})) == 2


def test_without_a_cgroup_the_systems_kills_are_counted(tmp_path: Path) -> None:
    assert memory_cgroup.kills(files(tmp_path, {"proc/vmstat": "nr_free_pages 1\noom_kill 40\n"})) == 40


def test_each_kill_explains_the_end_of_one_cell(tmp_path: Path) -> None:
    kills = KernelKills(files(tmp_path, version_2("max", 0, kills=5)))
    assert not kills.take(), "earlier ones were of others"
    files(tmp_path, version_2("max", 0, kills=7))
    assert [kills.take() for _ in range(3)] == [True, True, False]
    files(tmp_path, version_2("max", 0, kills=8))
    kills.forget()
    assert not kills.take()


def test_a_system_that_does_not_count_explains_nothing(tmp_path: Path) -> None:
    assert not KernelKills(tmp_path).take()
