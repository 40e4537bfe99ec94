"""What vLLM's processes are given when they start."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest

from engine.process import PARENT_VARIABLE
from engine.server import worker


@pytest.mark.parametrize("ours", [True, False])
def test_only_processes_of_a_server_that_jostle_started_die_with_their_parent(
    ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents: list[int] = []
    monkeypatch.setattr(worker, "die_with", parents.append)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=7))
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    if ours:
        monkeypatch.setenv(PARENT_VARIABLE, "1")
    worker.register()
    assert parents == ([7] if ours else [])
