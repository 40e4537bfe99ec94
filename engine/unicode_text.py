"""Texts that JSON can spell and nothing else can hold."""

from __future__ import annotations

NOT_UNICODE = "not Unicode: holds half a surrogate pair"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
