"""Lists of task ids, one a line: selections, exclusions, splits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.errors import InputError
from engine.files import write_bytes
from engine.tasks import id_fault
from engine.unicode_text import read_text


def read_names(file: Path) -> list[str]:
    """The lines of a list, less blank ones and blanks at their ends.

    Raises:
        InputError: If the file cannot be read, or is no text.
    """
    # Not by splitlines: it parts at characters that may stand in a name of an older list.
    lines = [line.strip() for line in read_text(file).split("\n")]
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise InputError("is no text: holds a NUL", file=file, record=f"line {number}")
    return [line for line in lines if line]


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
