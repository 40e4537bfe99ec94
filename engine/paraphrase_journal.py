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
        self._found = {kept.key: kept.paraphrase for kept in self._journal.records()}
        self._journal.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.__exit__(*exc)

    def get(self, key: str) -> str | None:
        """The paraphrase under this key, if there is one."""
        return self._found.get(key)

    def append(self, key: str, text: str, paraphrase: str) -> None:
        """Keep a paraphrase; it is on disk when this returns.

        Raises:
            InputError: If it cannot be written.
        """
        with self._lock:
            self._journal.append(KeptParaphrase(key=key, text=text, paraphrase=paraphrase))
            self._found[key] = paraphrase
