"""Text on a terminal: broken between words."""

from __future__ import annotations

import shutil
import textwrap
from typing import TextIO


def fitted(text: str, stream: TextIO, indent: str = "  ") -> str:
    """The text as it is printed to a stream: a terminal gets no line that it would break in a word.

    Args:
        indent: Of the lines that a line goes on in.
    """
    if not stream.isatty():
        return text
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns,
        subsequent_indent=indent,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(wrapper.fill(line) for line in text.splitlines())
