"""The file that keeps paraphrases."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

from engine.files import LineJournal
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

    Several clients may share one file: each sees what the others have written, and of two
    paraphrases under one key the first counts.

    Args:
        path: The file; it is made if it is missing.

    Raises:
        InputError: On entering, if a line other than a torn last one is broken, or the file cannot
            be written.
    """

    def __init__(self, path: Path) -> None:
        self._journal = LineJournal(path, KeptParaphrase)
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}

    def __enter__(self) -> Self:
        with self._lock:
            if not self.is_open:  # by another thread, meanwhile
                self._read()
                self._journal.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.is_open:
            self._journal.__exit__(*exc)

    @property
    def is_open(self) -> bool:
        """Whether it can be appended to."""
        return self._journal.is_open

    def get(self, key: str) -> str | None:
        """The paraphrase under this key, if there is one."""
        if key not in self._found:
            with self._lock:
                self._read()
        return self._found.get(key)

    def append(self, key: str, text: str, paraphrase: str) -> str:
        """Keep a paraphrase; what stands under the key, on disk, when this returns.

        Raises:
            InputError: If it cannot be written.
        """
        with self._lock:
            self._journal.append(KeptParaphrase(key=key, text=text, paraphrase=paraphrase))
            self._read()
            return self._found[key]

    def _read(self) -> None:
        for kept in self._journal.new_records():
            self._found.setdefault(kept.key, kept.paraphrase)
