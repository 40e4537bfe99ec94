"""The entries of a JSON array, read piece by piece: `json.load` takes ten times the file's size."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.pools.json_text import JsonError, parse_at

_PIECE = 1 << 20


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
                value, end = parse_at(self.buffer, self.position)
            except json.JSONDecodeError as error:
                # Only at the end of the buffer can it be that the value goes on in the next piece.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.buffer) - 16
                if self.ended or not cut:
                    raise self.error(error.msg.removesuffix(" at"), error.pos) from error
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            else:
                if end < len(self.buffer) or self.ended:
                    self.position = end
                    return value
            self.more()

    def error(self, problem: str, position: int | None = None) -> JsonError:
        before = self.buffer[: self.position if position is None else position]
        last = before.rfind("\n")
        column = len(before) - last if last >= 0 else self._columns + len(before) + 1
        line = self._lines + before.count("\n") + 1
        return JsonError(f"not JSON: {problem} at line {line}, column {column}")


def first_value(file: Path) -> tuple[Any, bool]:
    """The first JSON value of a file that holds one or several (`parse_at`); whether it is alone.

    An array is not read: the value is then an empty list.

    Raises:
        JsonError: If it is no JSON.
        OSError: If the file cannot be read.
        UnicodeDecodeError: If it is not UTF-8.
    """
    text = _Text(file)
    try:
        if text.peek() == "[":
            return [], True
        return text.value(), not text.peek()
    finally:
        text.close()


def read_json_array(file: Path) -> Iterator[Any]:
    """Yields the entries of a file that holds one JSON array, see `parse_at`.

    Raises:
        JsonError: Where the file stops being one.
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
