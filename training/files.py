"""Records that other steps read: JSON, Parquet, and journals that grow by whole lines."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Generic, Self, TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from engine.errors import InputError
from engine.files import cannot_write, write_bytes
from engine.tasks import Record
from engine.validation import first_fault

_M = TypeVar("_M", bound=BaseModel)
_R = TypeVar("_R", bound=Record)


def read_json(path: Path, model: type[_M]) -> _M:
    """A pydantic record from a JSON file.

    Raises:
        InputError: If the file is missing or does not follow the record's schema.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("the file is missing", file=path) from error
    except ValidationError as error:
        problem, field = first_fault(error)
        raise InputError(problem, file=path, field=field) from error


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file whole or not at all; see `engine.files.replacing`."""
    # Through memory: polars dresses a failed write up as an error of the format.
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(path, content.getvalue())


class LineJournal(Generic[_R]):
    """A file of JSON lines, synced as they come; a context manager to append with.

    Args:
        path: The file.
        kind: Record of a line.
    """

    def __init__(self, path: Path, kind: type[_R]) -> None:
        self.path = path
        self.kind = kind
        self._stream: IO[bytes] | None = None

    def records(self) -> Iterator[_R]:
        """All whole lines, one at a time; a torn last one is ignored.

        Raises:
            InputError: If a line other than the last is broken.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield self.kind.model_validate_json(line)
                except ValidationError as error:
                    problem = f"broken line: {error.errors()[0]['msg']}"
                    raise InputError(problem, file=self.path, record=f"line {number}") from error

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        # Cut a torn last line off, so that the next one starts on a line of its own.
        whole = self.path.read_bytes().rfind(b"\n") + 1
        self._stream.truncate(whole)
        self._stream.seek(whole)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._stream is not None
        self._stream.close()
        self._stream = None

    def append(self, record: _R) -> None:
        """Add a record; it is on disk when this returns.

        Raises:
            InputError: If it cannot be written; the lines before it stand.
        """
        assert self._stream is not None
        whole = self._stream.tell()
        try:
            # Unbuffered: what could not be written must not be tried again when the file closes.
            line = record.model_dump_json().encode() + b"\n"
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._stream.truncate(whole)
            raise cannot_write(self.path, error) from error
