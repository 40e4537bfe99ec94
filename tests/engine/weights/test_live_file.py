"""On what a server starts that was on other weights before."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.weights.live_file import LastGood


def test_weights_of_another_model_or_that_are_gone_are_told(tmp_path: Path) -> None:
    file, here = tmp_path / "live.json", str(tmp_path)
    LastGood(version="v", path=here).check("b", file)
    LastGood(version="v", path=here, served_as="b").check("b", file)
    LastGood(version="base-1", path="org/model", served_as="b").check("b", file)
    with pytest.raises(InputError, match=r"live.json: names weights of a, not of b"):
        LastGood(version="v", path=here, served_as="a").check("b", file)
    gone = str(tmp_path / "round-01")
    for last in (
        LastGood(version="v", path=gone),
        LastGood(version="v", path=here, base=gone),
    ):
        with pytest.raises(InputError, match=rf"live last, {gone}, which are gone"):
            last.check("b", file)
