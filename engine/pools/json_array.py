"""The entries of a JSON array, read piece by piece: `json.load` takes ten times the file's size."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PIECE = 1 << 20
_SCAN = json.JSONDecoder()


class JsonArrayError(ValueError):
    """The file is no JSON array, or breaks off. What follows cannot be read.

    Args:
        problem: What is wrong.
        line: Where, counted from 1.
        column: Where in the line, counted from 1.
    """

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(f"not JSON: {problem} at line {line}, column {column}")


class _Text:
    """What has been read of a file and not yet been used."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("rb")
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._piece = _PIECE
        self._lines = 0  # before the buffer
        self._columns = 0  # of the line that the buffer begins in
        self.buffer = ""
        self.position = 0
        self.ended = False

    def close(self) -> None:
        self._stream.close()

    def more(self) -> None:
        """Read on, and drop what has been used."""
        used = self.buffer[: self.position]
        self._lines += used.count("\n")
        last = used.rfind("\n")
        self._columns = len(used) - last - 1 if last >= 0 else self._columns + len(used)
        raw = self._stream.read(self._piece)
        self.ended = not raw
        self.buffer = self.buffer[self.position :] + self._decode.decode(raw, final=self.ended)
        # An entry larger than a piece is scanned again with each piece; so the pieces grow.
        self._piece = max(_PIECE, len(self.buffer))
        self.position = 0

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            while self.position < len(self.buffer):
                if self.buffer[self.position] not in " \t\r\n":
                    return self.buffer[self.position]
                self.position += 1
            if self.ended:
                return ""
            self.more()

    def value(self) -> Any:
        """The JSON value that begins here."""
        while True:
            try:
                value, end = _SCAN.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                # Only at the end of the buffer can it be that the value goes on in the next piece.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.buffer) - 16
                if self.ended or not cut:
                    raise self.error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            else:
                if end < len(self.buffer) or self.ended:
                    self.position = end
                    return value
            self.more()

    def error(self, problem: str, position: int | None = None) -> JsonArrayError:
        before = self.buffer[: self.position if position is None else position]
        last = before.rfind("\n")
        column = len(before) - last if last >= 0 else self._columns + len(before) + 1
        return JsonArrayError(problem, self._lines + before.count("\n") + 1, column)


def first_character(file: Path) -> str:
    """The first character of a file that is not white space; empty if there is none.

    Raises:
        OSError: If the file cannot be read.
        UnicodeDecodeError: If it is not UTF-8.
    """
    text = _Text(file)
    try:
        return text.peek()
    finally:
        text.close()


def read_json_array(file: Path) -> Iterator[Any]:
    """Yields the entries of a file that holds one JSON array.

    Raises:
        JsonArrayError: Where the file stops being one.
        OSError: If the file cannot be read.
        UnicodeDecodeError: If it is not UTF-8.
    """
    text = _Text(file)
    try:
        if text.peek() != "[":
            raise text.error("expected a list")
        text.position += 1
        if text.peek() == "]":
            text.position += 1
        else:
            yield from _entries(text)
        if text.peek():
            raise text.error("extra data behind the list")
    finally:
        text.close()


def _entries(text: _Text) -> Iterator[Any]:
    while True:
        if not text.peek():
            raise text.error("the list is not closed")
        yield text.value()
        separator = text.peek()
        if separator not in (",", "]"):
            raise text.error("expected ',' or ']'" if separator else "the list is not closed")
        text.position += 1
        if separator == "]":
            return
