"""Lists of task ids, one a line: selections, exclusions, splits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.errors import InputError
from engine.files import write_bytes
from engine.tasks import id_fault


def read_names(file: Path) -> list[str]:
    """The lines of a list, less blank ones and blanks at their ends.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte {error.start} cannot be read", file=file) from error
    # Not by splitlines: it parts at characters that may stand in a name of an older list.
    return [line.strip() for line in text.split("\n") if line.strip()]


def write_names(file: Path, names: Iterable[str]) -> None:
    """Write a list that `read_names` reads as it was.

    Raises:
        InputError: If a name cannot stand on a line of its own, or the file cannot be written.
    """
    lines = []
    for name in names:
        if problem := id_fault(name):
            raise InputError(problem, file=file, field="id")
        lines.append(f"{name}\n")
    write_bytes(file, "".join(lines).encode())
