"""The files of a folder that make a pool together."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from engine.errors import InputError

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of packed files."""

IS_PACKED = "is packed; unpack it first"


def files_ending(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files with one of these endings, in whatever case, ordered by name.

    What systems and editors keep beside a file, whose name begins with a dot, is left out.

    Raises:
        InputError: If one more of their kind is packed and not there unpacked too, for it would be
            left out.
    """
    files = [file for file in _visible(folder) if file.suffix.lower() in endings]
    refuse_packed(folder, {file.suffix.lower() for file in files})
    return files


def refuse_packed(folder: Path, endings: Collection[str]) -> None:
    """`InputError` where a file with one of these endings is packed, and not there unpacked too."""
    for file in _visible(folder):
        unpacked = file.with_suffix("")
        is_part = file.suffix.lower() in PACKED and unpacked.suffix.lower() in endings
        if is_part and not unpacked.exists():
            raise InputError(IS_PACKED, file=file)


def _visible(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
