"""One owner per run folder, whatever becomes of the owner."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from training.tables.lock import RunLock, live_owner

_HOLD = """
import sys, time
from pathlib import Path
from training.tables.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def test_a_second_owner_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.lock"
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(InputError, match=rf"another process works .*: process {holder.pid} on"),
            RunLock(path),
        ):
            pass
        owner = live_owner(path)
        assert owner is not None
        assert owner.pid == holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert live_owner(path) is None
    with RunLock(path):  # a killed owner holds nothing
        owner = live_owner(path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert live_owner(path) is None
    assert not path.exists()


def test_a_lock_that_is_removed_by_its_holder_is_not_taken(tmp_path: Path) -> None:
    """Of two that open the file while a third holds it, one holds a file that has no name."""
    path = tmp_path / "run.lock"
    with RunLock(path):
        waiting = path.open("a+b")
    fcntl.flock(waiting, fcntl.LOCK_EX)
    with RunLock(path), pytest.raises(InputError, match="another process works"), RunLock(path):
        pass
    opened = iter([waiting])
    real = Path.open

    def late(self: Path, *words: Any, **named: Any) -> Any:
        return next(opened, None) or real(self, *words, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", late)
        with RunLock(path):
            assert path.is_file()
    assert waiting.closed


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_as_such(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "run.lock"
    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"run\.lock: its file system takes no locks"),
        RunLock(path),
    ):
        pass
    assert live_owner(path) is None


def test_nobody_owns_an_absent_run(tmp_path: Path) -> None:
    assert live_owner(tmp_path / "run.lock") is None
