"""Records that other steps read: JSON and Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from engine.errors import InputError
from engine.files import write_bytes
from engine.pools.encodings import other_encoding, without_mark
from engine.validation import first_fault

_M = TypeVar("_M", bound=BaseModel)


def read_json(path: Path, model: type[_M]) -> _M:
    """A pydantic record from a JSON file.

    Raises:
        InputError: If the file is missing or does not follow the record's schema.
    """
    try:
        raw = path.read_bytes()
        return model.model_validate_json(without_mark(raw))
    except FileNotFoundError as error:
        raise InputError("the file is missing", file=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except ValidationError as error:
        problem, field = first_fault(error)
        raise InputError(other_encoding(raw) or problem, file=path, field=field) from error


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file whole or not at all; see `engine.files.replacing`."""
    # Through memory: polars dresses a failed write up as an error of the format.
    content = io.BytesIO()
    frame.write_parquet(content)
    write_bytes(path, content.getvalue())
