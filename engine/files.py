"""Files that others read: written beside themselves, synced and renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.errors import InputError

_PART = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; when the block is through, it is renamed into place.

    File and folder are synced. If the block raises, the part is removed and `path` is as it was;
    only a killed process leaves its part behind, see `is_part`.

    Raises:
        InputError: If it cannot be written, for want of space or of leave.
    """
    # Its own process, for several may write the same; the ending, for some writers go by it.
    part = path.with_name(f".{path.stem}.{os.getpid()}{_PART}{path.suffix}")
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


def is_part(path: Path) -> bool:
    """Whether a file is what a killed process left of a write."""
    return path.name.startswith(".") and path.name.removesuffix(path.suffix).endswith(_PART)


def cannot_write(path: Path, error: OSError) -> InputError:
    """What to tell about a failed write; what stands on disk already is whole."""
    reason = error.strerror or str(error)
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
