"""Every test is run once, by a process that has collected it, whichever has collected first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.sharing import HEAVY, Sharing, left_to_another

LIGHT = [f"tests/cli/test_{name}.py::test_{n}" for name in "abc" for n in range(4)]
ENGINES = [f"tests/integration/test_{name}.py::test_{n}" for name in "xy" for n in range(3)]
SERVER = [f"tests/engine/server/test_s.py::test_{n}" for n in range(3)]
ALL = ENGINES + SERVER + LIGHT


class FakeNode:
    """A process that does what it is told when `work` is called."""

    def __init__(self, name: str, collects: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.collects = collects
        self.queue: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduler(monkeypatch: pytest.MonkeyPatch, nodes: list[FakeNode]) -> Sharing:
    monkeypatch.setattr("xdist.scheduler.loadscope.parse_tx_spec_config", lambda _: nodes)
    made = Sharing(SimpleNamespace(), None)  # type: ignore[arg-type]
    for node in nodes:
        made.add_node(node)
    return made


def collected(sched: Sharing, node: FakeNode) -> None:
    """As xdist's session does when a process has collected."""
    sched.add_node_collection(node, node.collects)
    assert sched.collection_is_completed
    sched.schedule()


def work(sched: Sharing, node: FakeNode, ran: list[tuple[str, str]]) -> bool:
    """The node runs one test, and holds its last one back as xdist's do; whether there was one."""
    if not node.queue or (len(node.queue) == 1 and not node.shutting_down):
        return False
    index = node.queue.pop(0)
    ran.append((node.gateway.id, node.collects[index]))
    sched.mark_test_complete(node, index)
    return True


def work_all(sched: Sharing, nodes: list[FakeNode], ran: list[tuple[str, str]]) -> None:
    """The nodes by turns, until none has anything to do."""
    while sum(work(sched, node, ran) for node in nodes):
        pass
    if sched.tests_finished:
        for node in nodes:
            node.shutdown()
        while sum(work(sched, node, ran) for node in nodes):
            pass


@pytest.mark.parametrize("light_first", [True, False])
def test_each_test_is_run_once_where_it_was_collected(
    monkeypatch: pytest.MonkeyPatch, light_first: bool
) -> None:
    heavy, light = FakeNode("gw0", ALL), FakeNode("gw1", LIGHT)
    sched = scheduler(monkeypatch, [heavy, light])
    ran: list[tuple[str, str]] = []
    for node in [light, heavy] if light_first else [heavy, light]:
        collected(sched, node)
        assert work(sched, node, ran), "it does not wait for the other"
        if node is light:
            assert not sched.tests_finished or light_first is False
    work_all(sched, [heavy, light], ran)
    assert sorted(test for _, test in ran) == sorted(ALL)
    assert {test for node, test in ran if node == "gw1"} <= set(LIGHT)
    of_heavy = [test for node, test in ran if node == "gw0"]
    assert of_heavy[: len(ENGINES + SERVER)] == ENGINES + SERVER, "what takes longest comes first"
    assert heavy.shutting_down
    assert light.shutting_down


def test_all_is_done_before_the_other_has_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    heavy, light = FakeNode("gw0", ALL), FakeNode("gw1", LIGHT)
    sched = scheduler(monkeypatch, [heavy, light])
    ran: list[tuple[str, str]] = []
    collected(sched, light)
    work_all(sched, [light], ran)
    assert [test for _, test in ran] == LIGHT
    assert not sched.tests_finished
    collected(sched, heavy)
    work_all(sched, [heavy, light], ran)
    assert sorted(test for _, test in ran) == sorted(ALL)


def test_what_a_dead_process_leaves_is_run_by_the_one_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heavy, light = FakeNode("gw0", ALL), FakeNode("gw1", LIGHT)
    sched = scheduler(monkeypatch, [heavy, light])
    ran: list[tuple[str, str]] = []
    collected(sched, light)
    collected(sched, heavy)
    assert work(sched, heavy, ran)
    assert sched.remove_node(heavy) == ENGINES[1], "the one it died of"
    again = FakeNode("gw2", ALL)
    sched.add_node(again)
    collected(sched, again)
    work_all(sched, [light, again], ran)
    assert {test for _, test in ran} == set(ALL)
    assert {test for node, test in ran if node == "gw1"} <= set(LIGHT)


def test_collections_that_differ_are_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    heavy, light = FakeNode("gw0", ALL), FakeNode("gw1", LIGHT[1:])
    sched = scheduler(monkeypatch, [heavy, light])
    collected(sched, heavy)
    with pytest.raises(ValueError, match=r"test_a\.py: the processes have not collected the same"):
        collected(sched, light)


@pytest.mark.parametrize(
    ("worker", "path", "left"),
    [
        (None, HEAVY[0], "never"),
        ("gw0", HEAVY[0], "never"),
        ("gw1", HEAVY[0] + "test_any.py", "without engines"),
        ("gw1", "tests/integration/test_any.py", "always"),
        ("gw1", "tests/integration", "always"),
        ("gw1", "tests/cli/test_any.py", "never"),
        ("gw2", HEAVY[0], "never"),  # it replaces one that died
    ],
)
@pytest.mark.parametrize("ignored", [None, ["tests/integration"]])
def test_the_first_process_has_the_files_that_take_longest(
    pytestconfig: pytest.Config,
    worker: str | None,
    path: str,
    left: str,
    ignored: list[str] | None,
) -> None:
    config: Any = SimpleNamespace(
        rootpath=pytestconfig.rootpath, getoption={"ignore": ignored}.__getitem__
    )
    if worker:
        config.workerinput = {"workerid": worker, "workercount": 2}
    expected = left == "always" or (left == "without engines" and bool(ignored))
    assert left_to_another(pytestconfig.rootpath / path, config) is expected
