"""Keys of records that nothing reads: what changes the meaning is a fault, the rest is a note."""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from engine.pools.checks import Checker
from engine.pools.options import Columns

BESIDE_MESSAGES = frozenset(
    [
        *("documents", "tools", "functions"),
        *("image", "images", "video", "videos", "audio", "audios"),
    ]
)
"""What a model is told or shown beside chat messages, in the words of known data sets."""

TOOL_CALLS = ("tool_calls", "function_call")
"""What a message has beside or in the place of its content, and nothing here can score."""

_CONTEXT = BESIDE_MESSAGES | {"system", "system_prompt", "history", "context"}
"""What it is told or shown beside any prompt."""


_SHORTEST = 4
"""Letters of a key that one misspelt is told from another word, at least."""


class Watched(dict[str, Any]):
    """A record that remembers which of its keys were asked for with `get` or looked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    @property
    def missing(self) -> frozenset[str]:
        """The keys that were asked for and are not there."""
        return frozenset(self.asked - self.keys())


def tell_unused(
    values: Watched, check: Checker, known: Collection[str] = (), part: str | None = None
) -> None:
    """Tell of keys that nothing has asked for.

    Args:
        check: Is told of a fault where something would be lost that changes the meaning, be it
            that its name is misspelt.
        known: Keys that need no note.
        part: The part of the record that the values are, such as `instances[3]`. Of a part, empty
            keys need no note: in a table each has those of all others.
    """
    for name in values:
        if name in values.asked:
            continue
        if name in _CONTEXT and not is_empty(values[name]):
            problem = "is not used, and without it the task means another thing; put it into the "
            check.fault(f"{problem}prompt, or leave it out", name, part)
        elif name in known or is_index(name) or (part and is_empty(values[name])):
            continue
        elif (meant := _meant(name, values.missing)) and not is_empty(values[name]):
            role = "input" if meant == "context" else meant
            way = f"--column {role}={name}, " if role in Columns.model_fields and not part else ""
            problem = f"is not used, and there is no {meant!r}, which it may be"
            check.fault(f"{problem}: {way}rename it, or leave it out", name, part)
        else:
            of_rows = name == "task" and not part
            hint = "; --column task=task makes a task of rows that share it" if of_rows else ""
            where = f" in {part.partition('[')[0]}" if part else ""
            check.note(f"{name!r}{where} is not used{hint}")


@lru_cache(maxsize=4096)
def _meant(name: str, missing: frozenset[str]) -> str | None:
    """The missing key that this one is, but for case and one letter that is wrong or misplaced."""
    for key in sorted(missing):
        alike = SequenceMatcher(None, name.casefold(), key.casefold(), autojunk=False).ratio()
        if len(key) >= _SHORTEST and alike > 1 - 1.01 / len(key):
            return key
    return None


def is_empty(value: Any) -> bool:
    """Whether a value says nothing; a table has no other way to leave one out."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null")
    return value is None or value in ([], {}) or value != value  # NaN


def is_index(name: str) -> bool:
    """Whether pandas wrote the column from its row numbers."""
    return not name or name == "__index_level_0__" or name.startswith("Unnamed: ")
