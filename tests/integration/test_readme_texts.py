"""The examples of the README that score texts, on the real server."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import engine
from engine.process.engine_process import EngineProcess
from engine.session.scoring_session import Scorer

pytestmark = pytest.mark.integration

SECTION = (Path(__file__).parents[2] / "README.md").read_text().split("## Score texts\n")[1]
PYTHON, CURL, *_ = re.findall(r"^```\w*\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def test_python(
    server: EngineProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_server(model: str) -> Scorer:
        assert model == "smollm2-135m"
        return Scorer(url=server.url)

    monkeypatch.setitem(vars(engine), "Scorer", at_server)
    found: dict[str, Any] = {}
    with pl.Config(tbl_cols=-1, tbl_width_chars=1000):
        exec(PYTHON, found)
    assert found["paris"].logprob > found["rome"].logprob
    shown = capsys.readouterr().out
    for column in ("token_texts", "prompt_uncertainty"):
        assert column in shown


def test_curl(server: EngineProcess) -> None:
    assert CURL.startswith("curl ")
    command = CURL.replace("http://127.0.0.1:8000", server.url)
    run = partial(subprocess.run, shell=True, check=True, capture_output=True)
    text, chat = json.loads(run(command).stdout)["results"]
    assert "".join(text["token_texts"]) == " Paris"
    assert "".join(chat["token_texts"]) == "Paris."
