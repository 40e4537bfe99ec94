"""The processes of a server under test, found by a mark in their environment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

MARK_VARIABLE = "JOSTLE_TEST_MARK"
FAULT_VARIABLE = "JOSTLE_TEST_FAULT"


def marked(mark: str) -> dict[int, int]:
    """Running processes that inherited the mark, each with its parent."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if wanted in environment and state != "Z":
            found[int(entry.name)] = int(parent)
    return found


def children(mark: str, parent: int) -> list[int]:
    """The marked children of a process, the largest first."""

    def memory(pid: int) -> int:
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0

    return sorted((p for p, above in marked(mark).items() if above == parent), key=memory)[::-1]


def wait_until_gone(mark: str, pids: Iterable[int]) -> float:
    """Seconds until none of the processes is left."""
    started = time.monotonic()
    while set(pids) & marked(mark).keys():
        time.sleep(0.05)
    return time.monotonic() - started
