"""Code blocks of Markdown pages, and what the line before each says of how it is tested.

| line | the block |
| --- | --- |
| a file's name in backticks and a colon, alone | is written to that file |
| `<!-- real engine -->` | is run by tests/integration, the other ones beside a stand-in |
| `<!-- parsed -->` | is not run: its commands are taken apart by the command line's own parser |
| `<!-- exit N -->` | ends with this exit code; a text block after it holds a part of what it says |
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BUILT = {ROOT / "docs" / "reference", ROOT / "docs" / "_build"}
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not _BUILT & {*page.parents}),
]
_BLOCK = re.compile(
    r"(?:^(?:<!-- (?P<note>[^\n]*?) -->|`(?P<file>[^`\n]+)`:)\n\n?)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NOTE = re.compile(r"(?P<real>real engine)|(?P<parsed>parsed)|exit (?P<exit>\d)")


class Block(NamedTuple):
    """A code block.

    Attributes:
        place: Page and line.
        language: What stands behind the fence.
        text: Its lines.
        file: The file that it is.
        real: Whether it wants a real engine.
        parsed: Whether it is only parsed.
        exit: The exit code of its last command.
        said: A part of what it prints.
    """

    place: str
    language: str
    text: str
    file: str | None
    real: bool
    parsed: bool
    exit: int
    said: str


def page_blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    source = page.read_text()
    blocks: list[Block] = []
    for found in _BLOCK.finditer(source):
        place = f"{page.relative_to(ROOT)}:{source.count(chr(10), 0, found.start('text'))}"
        note = _NOTE.fullmatch(found["note"]) if found["note"] else None
        assert note or not found["note"], f"{place}: unknown comment {found['note']!r}"
        how = note.groupdict() if note else dict.fromkeys(("real", "parsed", "exit"))
        language, text = found["language"], found["text"]
        if language == "text" and blocks and blocks[-1].exit and not blocks[-1].said:
            blocks[-1] = blocks[-1]._replace(said=text)
        blocks.append(
            Block(
                place,
                language,
                text,
                found["file"],
                bool(how["real"]),
                bool(how["parsed"]),
                int(how["exit"] or 0),
                "",
            )
        )
    return blocks


def commands(block: Block) -> list[str]:
    """The command lines of a block of shell, comments and breaks taken out."""
    joined = block.text.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#\s.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
