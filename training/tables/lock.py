"""One owner per run folder or output: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from pydantic import ValidationError

from engine.errors import InputError
from engine.tasks import Record

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.02


class Owner(Record):
    """Who works on something; content of its lock file.

    Attributes:
        pid: Process id.
        host: Name of its machine.
        started: When it took it, in seconds since 1970.
    """

    pid: int
    host: str
    started: float


class RunLock:
    """Holds a run folder or a command's output for this process; a context manager.

    Args:
        path: The lock file, which is removed when the lock is given back. One that a killed
            process left holds nothing.
        what: What is held, for messages.
        file: Where that is; the lock file's folder by default.

    Raises:
        InputError: On entering, if another process holds it, which the message names; or if the
            file system takes no locks.
    """

    def __init__(self, path: Path, what: str = "run folder", file: Path | None = None) -> None:
        self.path = path
        self._what = what
        self._file = file or path.parent
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Self:
        tries_left = _ATTEMPTS
        while True:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stream = self.path.open("a+b", buffering=0)
            except OSError as error:
                raise InputError(f"cannot be written: {error.strerror}", file=self.path) from error
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:  # the second on SMB
                stream.close()
                tries_left -= 1
                if tries_left:  # it may only be somebody who looks, see `live_owner`
                    time.sleep(_PAUSE_SECONDS)
                    continue
                raise InputError(
                    f"another process works on this {self._what}{_describe(read_owner(self.path))}",
                    file=self._file,
                ) from error
            except OSError as error:
                stream.close()
                problem = f"its file system takes no locks: {error.strerror}"
                raise InputError(problem, file=self.path) from error
            if _is_at(stream, self.path):
                break
            stream.close()  # its holder has removed it in the meantime
        owner = Owner(pid=os.getpid(), host=socket.gethostname(), started=time.time())
        self._stream = stream
        with suppress(OSError):  # on a full disk the lock holds, only its holder is not named
            stream.truncate(0)
            stream.write(owner.model_dump_json().encode())
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._stream is not None
        with suppress(OSError):
            if _is_at(self._stream, self.path):
                self.path.unlink()
        self._stream.close()
        self._stream = None


def _is_at(stream: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def live_owner(path: Path) -> Owner | None:
    """Who holds the lock now; none if nobody does, or can."""
    try:
        stream = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return read_owner(path)
        except OSError:  # a file system without locks
            return None
    return None


def read_owner(path: Path) -> Owner | None:
    """Who wrote the lock file last; none if that cannot be read."""
    try:
        return Owner.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _describe(owner: Owner | None) -> str:
    return f": process {owner.pid} on {owner.host}" if owner else ""
