"""How xdist shares tests out: those of engines to one process, and what else needs torch or vLLM.

To import them takes a process 15 seconds of CPU. So where the engines' tests are left out, which
take minutes, the first process alone collects the tests of `HEAVY`; the others do not even import
those files, and begin as soon as they have collected theirs. Where they are not, they keep the
first process busy, and the others collect all but them. A process that takes the place of one that
died collects all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

ENGINES = "tests/integration/"
"""Tests of this folder share their engines, so the first process runs them all."""

HEAVY = (
    "tests/benchmarks/",
    "tests/engine/server/",
    "tests/engine/weights/test_adapter.py",
    "tests/engine/weights/test_checkpoint_check.py",
    "tests/engine/weights/test_probing.py",
    "tests/integration/",
    "tests/training/callback/",
    "tests/training/commands/test_publish_folder.py",
    "tests/training/trainer/",
)
"""Files and folders whose tests import torch or vLLM. `tests/test_imports.py` holds the others to
it that they do not, as far as their collection goes."""


def is_heavy(path: str) -> bool:
    """Whether a file, named from the root of the repository, is among `HEAVY`."""
    return path.startswith(HEAVY)


def left_to_another(path: Path, config: pytest.Config) -> bool:
    """Whether this process leaves a file to the first one."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None or not path.is_relative_to(config.rootpath):
        return False
    number = int(str(worker["workerid"]).removeprefix("gw"))
    name = path.relative_to(config.rootpath).as_posix()
    ignored = {Path(each).name for each in config.getoption("ignore") or ()}
    firsts = HEAVY if Path(ENGINES).name in ignored else ENGINES
    return 0 < number < worker["workercount"] and f"{name}/".startswith(firsts)


def in_order(item: pytest.Item) -> int:
    """What takes longest comes first, so that the others can even out the end."""
    path = item.nodeid
    return 0 if path.startswith(ENGINES) else 1 if is_heavy(path) else 2


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Files go to the processes that have collected them, those of `ENGINES` together.

    Read against xdist 3.8: `LoadScopeScheduling` waits for all processes and wants them to have
    collected the same.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._known: dict[str, list[str]] = {}

    @property
    def collection_is_completed(self) -> bool:
        """Whether tests can be shared out: from the first process on that has collected."""
        return bool(self.registered_collections)

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to be shared out; not before all processes have collected."""
        return len(self.registered_collections) >= self.numnodes and bool(super().tests_finished)

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Takes note of what a process has collected; what no other has comes first."""
        units: dict[str, list[str]] = {}
        for test in collection:
            units.setdefault(self._split_scope(test), []).append(test)
        for scope, tests in reversed(units.items()):
            if scope not in self._known:
                self._known[scope] = tests
                self.workqueue[scope] = dict.fromkeys(tests, False)
                self.workqueue.move_to_end(scope, last=False)
            elif self._known[scope] != tests:
                raise ValueError(f"{scope}: the processes have not collected the same tests")
        self.registered_collections[node] = list(collection)

    def schedule(self) -> None:
        """Gives each process that has collected two files, so that it never waits for one."""
        for node in self.registered_collections:
            if node in self.assigned_work:
                self._reschedule(node)

    def _assign_work_unit(self, node: Any) -> None:
        collected = set(self.registered_collections[node])
        scopes = [scope for scope, tests in self.workqueue.items() if collected.issuperset(tests)]
        if scopes:
            self.workqueue.move_to_end(scopes[0], last=False)
            super()._assign_work_unit(node)
        else:  # what is left, only others can run
            node.shutdown()

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return ENGINES if file.startswith(ENGINES) else file
