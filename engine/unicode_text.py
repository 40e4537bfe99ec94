"""Text is Unicode, its files UTF-8 with or without a byte order mark; what is said of others."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from engine.errors import InputError

NOT_UNICODE = "not Unicode: holds half a surrogate pair"
_UTF16 = "not UTF-8: it looks like UTF-16; convert it: iconv -f UTF-16{} -t UTF-8 OLD > NEW"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(file: Path) -> str:
    """The text of a small file, less a byte order mark, with the line ends of Unix.

    Raises:
        InputError: If it cannot be read or is no text in UTF-8.
    """
    try:
        raw = file.read_bytes()
        if problem := other_encoding(raw):
            raise InputError(problem, file=file)
        return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig").read()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError(not_utf8(error), file=file) from error


def without_mark(raw: bytes) -> bytes:
    """The bytes less the byte order mark of UTF-8."""
    return raw.removeprefix(codecs.BOM_UTF8)


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong with bytes that cannot be decoded."""
    return other_encoding(error.object) or f"not UTF-8: byte {error.start} cannot be read"


def file_encoding(file: Path) -> str:
    """The same as `other_encoding` of a file; `OSError` if it cannot be read."""
    with file.open("rb") as stream:
        return other_encoding(stream.read(2))


def other_encoding(raw: bytes) -> str:
    """What is wrong with a text that begins with these bytes; empty if it may be UTF-8.

    Without a byte order mark UTF-16 would pass for UTF-8 whose every other letter is a NUL.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _UTF16.format("")
    if len(raw) > 1 and (raw[0] == 0) != (raw[1] == 0):
        return _UTF16.format("LE" if raw[0] else "BE")
    return ""
