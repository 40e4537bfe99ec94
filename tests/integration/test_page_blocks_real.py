"""The code blocks of the README and of docs/ that want a real engine, on one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import engine
from engine.process.engine_process import EngineProcess
from engine.session.scoring_session import Scorer
from tests.docs.page_blocks import PAGES, Block, page_blocks

pytestmark = pytest.mark.integration

BLOCKS = [block for page in PAGES for block in page_blocks(page) if block.real]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_block(
    block: Block,
    server: EngineProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if block.language == "sh":
        curl(block.text.replace("http://127.0.0.1:8000", server.url))
        return

    def at_server(model: str) -> Scorer:
        assert model == "smollm2-135m"
        return Scorer(url=server.url)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(vars(engine), "Scorer", at_server)
    found: dict[str, Any] = {}
    with pl.Config(tbl_cols=-1, tbl_width_chars=1000):
        exec(compile(block.text, block.place, "exec"), found)
    said = capsys.readouterr().out
    if "paris" in found:
        assert found["paris"].logprob > found["rome"].logprob
        assert "prompt_uncertainty" in said
    else:
        assert '[" Paris"]' in said
        assert found["sample"].text in said


def curl(command: str) -> None:
    """Runs a request; what it asks for is in the answer."""
    done = subprocess.run(command, shell=True, check=True, capture_output=True)
    results = json.loads(done.stdout)["results"]
    assert [result["logprob"] < 0 for result in results] == [True] * len(results) != []
    if '"tokens": true' in command:
        assert ["".join(result["token_texts"]) for result in results] == [" Paris", "Paris."]
