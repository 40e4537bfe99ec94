"""The judge is the server itself: any model behind OpenAI's chat completions will do."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from engine.client.chat_client import ChatClient
from engine.errors import EngineError
from engine.files import LineJournal
from engine.process.engine_process import EngineProcess
from training.evaluation.evaluator import Output
from training.evaluation.judge import Verdict, compare

pytestmark = pytest.mark.integration


def answers(words: str) -> list[Output]:
    return [
        Output(
            task_id=f"task-{number}",
            instance_id="1",
            definition="Name the colour of the sky.",
            input="",
            gold=("blue",),
            output=f"{words} {number}",
            rouge_l=0.0,
            exact_match=False,
        )
        for number in range(3)
    ]


def test_the_live_server_judges_and_an_interrupted_comparison_goes_on(
    server: EngineProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.judge.REPLY_TOKENS", 8)
    models = httpx.get(f"{server.url}/v1/models", trust_env=False, timeout=600)
    name = models.json()["data"][0]["id"]
    journal = tmp_path / "journal.jsonl"
    left, right = answers("Blue"), answers("I would say it is a kind of cheese")

    def stop_after_two(done: int, total: int) -> None:
        assert total == 6
        if done == 2:
            raise EngineError("stopped")

    with ChatClient(f"{server.url}/v1", model=name, timeout_s=600, proxies=False) as judge:
        with pytest.raises(EngineError, match="stopped"):
            compare(left, right, judge, journal, at_once=1, on_progress=stop_after_two)
        first = list(LineJournal(journal, Verdict).records())
        assert len(first) == 2
        found = compare(left, right, judge, journal)
    verdicts = list(LineJournal(journal, Verdict).records())
    assert verdicts[:2] == first
    assert len({verdict.key for verdict in verdicts}) == 6
    assert all(verdict.reply for verdict in verdicts)
    assert found.pairs == found.wins + found.losses + found.ties == 3
