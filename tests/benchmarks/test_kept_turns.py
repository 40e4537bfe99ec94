"""Turns that are kept are those of the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from benchmarks.common.turns import in_turns, keep_for


class Turn(BaseModel):
    seconds: float


def test_kept_turns_are_not_taken_again_nor_for_other_settings(tmp_path: Path) -> None:
    taken: list[str] = []

    def take() -> Turn:
        taken.append("once")
        return Turn(seconds=len(taken))

    for _ in range(2):
        keep_for(tmp_path / "kept", {"eager": True, "questions": 8})
        turns = in_turns(Turn, {"a way": take}, 2, tmp_path / "kept")
    assert [turn.seconds for turn in turns["a way"]] == [1, 2]
    assert len(taken) == 2
    with pytest.raises(SystemExit, match="holds answers of other settings"):
        keep_for(tmp_path / "kept", {"eager": False, "questions": 8})
