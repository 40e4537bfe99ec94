"""The file that keeps paraphrases."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pydantic import ValidationError

from engine.errors import InputError
from engine.tasks import Record


class KeptParaphrase(Record):
    """A line of the journal.

    Attributes:
        key: sha256 of the text and all that decides the words of its paraphrase.
        text: The text, for those who read the file.
        paraphrase: The paraphrase.
    """

    key: str
    text: str
    paraphrase: str


class ParaphraseJournal:
    """Paraphrases, one JSON line each, on disk as they come; a context manager, safe for threads.

    Args:
        path: The file; it is made if it is missing.

    Raises:
        InputError: On entering, if a line other than a torn last one is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        self._stream: BinaryIO

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        # What stands after the last newline is empty, or a line whose writing was cut off.
        *lines, torn = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                kept = KeptParaphrase.model_validate_json(line)
            except ValidationError as error:
                problem = f"broken line: {error.errors()[0]['msg']}"
                raise InputError(problem, file=self.path, record=f"line {number}") from error
            self._found[kept.key] = kept.paraphrase
        self._stream = self.path.open("ab")
        self._stream.truncate(len(content) - len(torn))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def get(self, key: str) -> str | None:
        """The paraphrase under this key, if there is one."""
        return self._found.get(key)

    def append(self, key: str, text: str, paraphrase: str) -> None:
        """Keep a paraphrase; it is on disk when this returns."""
        line = KeptParaphrase(key=key, text=text, paraphrase=paraphrase).model_dump_json()
        with self._lock:
            self._found[key] = paraphrase
            self._stream.write(line.encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
