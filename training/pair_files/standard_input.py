"""Standard input can be read but once; files of pairs are gone through several times."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from engine.errors import InputError
from engine.files import replacing
from engine.pools.opening import READERS
from training.pair_files.file_scoring import LogprobFiles


def keep_standard_input(files: LogprobFiles, form: str) -> Path:
    """Writes it to a file of its own beside the output, all of it.

    Args:
        form: What it holds, such as `jsonl`.

    Raises:
        InputError: If that is unknown, or it cannot be written.
    """
    ending = f".{form}"
    if ending not in READERS:
        known = ", ".join(each.removeprefix(".") for each in READERS)
        raise InputError(f"unknown form {form!r}; there are: {known}", field="--stdin")
    path = files.standard_input(ending)
    with replacing(path) as part, part.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return path
