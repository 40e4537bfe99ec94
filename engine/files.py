"""Files that others read: written whole or not at all, or grown by whole lines."""

from __future__ import annotations

import fcntl
import glob
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar

from pydantic import ValidationError

from engine.errors import InputError
from engine.tasks import Record
from engine.unicode_text import other_encoding, without_mark
from engine.validation import first_fault

_R = TypeVar("_R", bound=Record)

_PART = ".part"
_BLOCK_BYTES = 1 << 16


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; when the block is through, it is renamed into place.

    File and folder are synced. If the block raises, the part is removed and `path` is as it was;
    only a killed process leaves its part behind, see `is_part`.

    Raises:
        InputError: If it cannot be written, for want of space or of leave.
    """
    part = _part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        sync_file(part)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def check_output(path: Path, *, overwrite: bool, inputs: Iterable[object] = ()) -> None:
    """That a command may write a file: the one rule for all outputs.

    Args:
        overwrite: Whether a file that is there may be replaced.
        inputs: What the same command reads; names that are no files count for nothing. In a folder
            that is one of them nothing is written: it would be read the next time.

    Raises:
        InputError: If the file is there already, is a folder or another thing that is no regular
            file, is or lies in an input by whatever name, or its folder is missing or cannot be
            written to.
    """
    folder = path.parent
    try:
        if path.is_dir():
            raise InputError("is a folder; name a file in it", file=path)
        read = [file for each in inputs if (file := Path(str(each))).exists()]
        if path.exists() and any(path.samefile(file) for file in read):
            raise InputError("is read by the same command; name another file", file=path)
        if folder.is_dir() and any(folder.samefile(each) for each in read if each.is_dir()):
            problem = "lies in a folder that the same command reads; name another"
            raise InputError(problem, file=path)
        if path.exists() and not path.is_file():
            raise InputError("is no regular file", file=path)
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise InputError("is there already; --overwrite replaces it", file=path)
        if not folder.is_dir():
            raise InputError("no such folder", file=folder)
        n_bytes = len(os.fsencode(_part_of(path).name))
        if n_bytes > (longest := os.pathconf(folder, "PC_NAME_MAX")):
            problem = f"the name is too long; shorten it by {n_bytes - longest} bytes"
            raise InputError(problem, file=path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("cannot be written to", file=folder)


def nearest_there(path: Path) -> Path:
    """A path itself, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def check_folder(folder: Path, inputs: Iterable[object] = ()) -> None:
    """That a command may write files into a folder, which is made when it is not there.

    Args:
        inputs: What the same command reads, see `check_output`.

    Raises:
        InputError: If it, or what it lies in, is no folder or cannot be written to, or it is an
            input.
    """
    try:
        there = nearest_there(folder)
        if not there.is_dir():
            raise InputError("is no folder", file=there)
        read = [path for each in inputs if (path := Path(str(each))).is_dir()]
        if there == folder and any(folder.samefile(path) for path in read):
            raise InputError("is read by the same command; name another folder", file=folder)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=folder) from error
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError("cannot be written to", file=there)


def _part_of(path: Path) -> Path:
    # Its own process, for several may write the same; the ending, for some writers go by it.
    return path.with_name(f".{path.stem}.{os.getpid()}{_PART}{path.suffix}")


def is_part(path: Path) -> bool:
    """Whether a file is what a killed process left of a write."""
    return path.name.startswith(".") and path.name.removesuffix(path.suffix).endswith(_PART)


def remove_parts(path: Path) -> None:
    """Remove what killed processes left of writes of a file; nobody else may be at it now."""
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*{_PART}{path.suffix}"):
        pid = part.name.removeprefix(f".{path.stem}.").removesuffix(f"{_PART}{path.suffix}")
        if pid.isdigit():
            part.unlink(missing_ok=True)


def cannot_write(path: Path, error: Exception) -> InputError:
    """What to tell about a failed write; what stands on disk already is whole."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(
        f"cannot be written: {reason}; nothing is lost, mend it and start again", file=path
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see `replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_json(path: Path, values: Any) -> None:
    """Write JSON whole or not at all; NaN and infinity are refused (`ValueError`)."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path, kind: type[_R], otherwise: str = "") -> _R:
    """A record from a JSON file.

    Args:
        otherwise: What to say first of a file that does not follow the record's schema.

    Raises:
        InputError: If the file is missing, cannot be read or does not follow the schema.
    """
    try:
        raw = path.read_bytes()
        return kind.model_validate_json(without_mark(raw))
    except FileNotFoundError as error:
        raise InputError("the file is missing", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except ValidationError as error:
        problem, field = first_fault(error)
        problem = ": ".join(filter(None, (otherwise, other_encoding(raw) or problem)))
        raise InputError(problem, file=path, field=field) from error


def sync_file(path: Path) -> None:
    """Make sure that a file's content is on disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Make sure that a folder's entries (a rename in it) are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LineJournal(Generic[_R]):
    """A file of JSON lines, synced as they come; a context manager to append with.

    Several may append at once, of one process or of many: each line is written under a lock of the
    file (`flock`), and only who holds it cuts off what a killed writer left of its last line.
    """

    def __init__(self, path: Path, kind: type[_R]) -> None:
        self.path = path
        self.kind = kind
        self._stream: IO[bytes] | None = None
        self._read_to = 0
        self._n_read = 0

    def records(self) -> Iterator[_R]:
        """All whole lines, one at a time; a torn last one is ignored.

        Raises:
            InputError: If a line other than the last is broken.
        """
        self._read_to = self._n_read = 0
        yield from self.new_records()

    def new_records(self) -> Iterator[_R]:
        """The whole lines that have come since the last one that was read; see `records`."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            stream.seek(self._read_to)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._read_to += len(line)
                self._n_read += 1
                try:
                    yield self.kind.model_validate_json(line)
                except ValidationError as error:
                    problem, field = first_fault(error)
                    raise InputError(
                        f"broken line: {problem}",
                        file=self.path,
                        record=f"line {self._n_read}",
                        field=field,
                    ) from error

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what could not be written must not be tried again when the file closes.
            self._stream = self.path.open("a+b", buffering=0)
            with _locked(self._stream):
                _cut_torn_line(self._stream)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._stream is not None
        self._stream.close()
        self._stream = None

    @property
    def is_open(self) -> bool:
        """Whether it can be appended to."""
        return self._stream is not None

    def append(self, record: _R) -> None:
        """Add a record; it is on disk when this returns.

        Raises:
            InputError: If it cannot be written; the lines before it stand.
        """
        stream = self._stream
        assert stream is not None
        line = record.model_dump_json().encode() + b"\n"
        try:
            with _locked(stream):
                whole = _cut_torn_line(stream)
                try:
                    while line:
                        line = line[stream.write(line) :]
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(whole)
                    raise
        except OSError as error:
            raise cannot_write(self.path, error) from error


@contextmanager
def _locked(stream: IO[bytes]) -> Iterator[None]:
    """Nobody else holds the lock of this file while the block runs."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


def _cut_torn_line(stream: IO[bytes]) -> int:
    """Cuts off what follows the last line end, looked for from the back; the size of what stays."""
    size = whole = stream.seek(0, os.SEEK_END)
    n_bytes = 1  # nearly always the last byte tells
    while whole:
        start = max(0, whole - n_bytes)
        stream.seek(start)
        found = stream.read(whole - start).rfind(b"\n")
        whole = start + found + 1
        if found >= 0:
            break
        n_bytes = _BLOCK_BYTES
    if whole < size:
        stream.truncate(whole)
    return whole
