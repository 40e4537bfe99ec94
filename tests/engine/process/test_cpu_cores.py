"""How the cores of a machine are shared out among the ranks of an engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.process.cpu_cores import bound_cores


def make_machine(folder: Path, threads: dict[int, tuple[int, int]]) -> Path:
    """Logical cores, each with its memory node and its physical core."""
    for thread, (node, core) in threads.items():
        cpu = folder / f"cpu{thread}"
        (cpu / "topology").mkdir(parents=True)
        (cpu / f"node{node}").mkdir()
        (cpu / "topology" / "physical_package_id").write_text(f"{node}\n")
        (cpu / "topology" / "core_id").write_text(f"{core}\n")
    return folder


@pytest.fixture
def two_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two memory nodes of two cores with two threads each, numbered across the nodes."""
    threads = {thread: (thread % 2, thread // 2 % 2) for thread in range(8)}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(threads))
    return make_machine(tmp_path, threads)


def test_each_rank_has_whole_cores_of_one_memory_node(two_sockets: Path) -> None:
    assert bound_cores(1, two_sockets) == "4,6,5,7"
    assert bound_cores(2, two_sockets) == "4,6|5,7"
    assert bound_cores(3, two_sockets) == "4|6|5,7"


def test_more_ranks_than_cores_share_them(two_sockets: Path) -> None:
    assert bound_cores(6, two_sockets) == "4|6|5|7|4|6"


def test_cores_of_which_nothing_is_known_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5})
    assert bound_cores(2, tmp_path) == "0|1,5"
