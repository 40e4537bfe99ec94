"""On what a server starts that was on other weights before."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.weights.live_file import LastGood


def test_weights_that_are_gone_are_told(tmp_path: Path) -> None:
    file = tmp_path / "live.json"
    LastGood(version="v", path=str(tmp_path)).check(file)
    LastGood(version="base-1", path="org/model", served_as="b").check(file)
    gone = str(tmp_path / "round-01")
    for last in (
        LastGood(version="v", path=gone),
        LastGood(version="v", path=str(tmp_path), base=gone),
    ):
        with pytest.raises(InputError, match=rf"live last, {gone}, which are gone"):
            last.check(file)
