"""A module with a fault in it: other source under the same name, without a file being touched."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from tests.planted_faults.faults import Fault


def faulty_source(fault: Fault, path: str) -> str:
    """The module's source with the fault.

    Raises:
        ValueError: If what it replaces does not stand there once.
    """
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123
        source = stream.read()
    if (times := source.count(fault.source)) != 1:
        raise ValueError(f"{fault.module}: {fault.source!r} stands there {times} times")
    return source.replace(fault.source, fault.planted)


class _FaultyLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, fault: Fault, path: str) -> None:
        super().__init__(fault.module, path)
        self._source = faulty_source(fault, path)

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._fault.module:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert found is not None
        assert found.origin is not None
        found.loader = _FaultyLoader(self._fault, found.origin)
        return found


def plant(fault: Fault) -> None:
    """Have the module imported with the fault, from now on in this process."""
    assert fault.module not in sys.modules
    sys.meta_path.insert(0, _Finder(fault))
