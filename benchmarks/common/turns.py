"""Ways that are measured in turns, so that each sees the same minutes of a machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from benchmarks.peers.contenders import slug

_Turn = TypeVar("_Turn", bound=BaseModel)


def keep_for(folder: Path, settings: Mapping[str, object]) -> None:
    """Makes a folder for answers, or goes on with one that was made with the same settings.

    Raises:
        SystemExit: If it was made with others.
    """
    file, text = folder / "settings.json", json.dumps(dict(settings), sort_keys=True, default=str)
    known = file.read_text() if file.exists() else "which are not written down"
    if known != text and folder.is_dir() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: holds answers of other settings, {known}")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def in_turns(
    kind: type[_Turn],
    ways: Mapping[str, Callable[[], _Turn]],
    n_turns: int = 1,
    kept: Path | None = None,
    once: str = "",
) -> dict[str, list[_Turn]]:
    """One way after the other, then all again.

    Args:
        kind: What a turn gives.
        kept: A folder that keeps each turn; one that is there is not taken again.
        once: A way that takes the first turn only.
    """
    turns: dict[str, list[_Turn]] = {name: [] for name in ways}
    for number in range(n_turns):
        for name, take in ways.items():
            if number and name == once:
                continue
            file = kept / f"{slug(name)}-{number}.json" if kept else None
            if file and file.exists():
                turns[name].append(kind.model_validate_json(file.read_bytes()))
                continue
            turns[name].append(turn := take())
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(turn.model_dump_json())
    return turns
