"""Keys of records that nothing reads: what changes the meaning is a fault, the rest is a note."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.pools.checks import Checker

_CONTEXT = frozenset(
    [
        *("system", "system_prompt", "history", "context", "documents", "tools", "functions"),
        *("image", "images", "video", "videos", "audio", "audios"),
    ]
)
"""What a model is told or shown beside the prompt, in the words of known data sets."""


class Watched(dict[str, Any]):
    """A record that remembers which of its keys were asked for with `get`."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def tell_unused(values: Watched, check: Checker, known: Collection[str] = ()) -> None:
    """Tell of keys that nothing has asked for.

    Args:
        check: Is told of a fault where something would be lost that changes the meaning.
        known: Keys that need no note.
    """
    for name in values:
        if name in values.asked:
            continue
        if name in _CONTEXT and not is_empty(values[name]):
            problem = "is not used, and without it the task means another thing; put it into the "
            check.fault(f"{problem}prompt, or leave it out", name)
        elif name not in known and not is_index(name):
            hint = (
                "; --column task=task makes a task of rows that share it" if name == "task" else ""
            )
            check.faults.note(f"{name!r} is not used{hint}")


def is_empty(value: Any) -> bool:
    """Whether a value says nothing; a table has no other way to leave one out."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null")
    return value is None or value in ([], {}) or value != value  # NaN


def is_index(name: str) -> bool:
    """Whether pandas wrote the column from its row numbers."""
    return not name or name == "__index_level_0__" or name.startswith("Unnamed: ")
