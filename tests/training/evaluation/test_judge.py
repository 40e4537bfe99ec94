"""The judge on a fake endpoint: both orders, ties kept, nothing asked twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.client.chat_client import ChatClient
from engine.errors import EngineError, InputError
from training.evaluation.evaluator import Output
from training.evaluation.judge import REPLY_TOKENS, compare, read_outputs, summarise
from training.tables.lock import RunLock


def answer(task: str, text: str) -> Output:
    return Output(
        task_id=task,
        instance_id="1",
        definition=f"Do {task}",
        input="",
        gold=("x",),
        output=text,
        rouge_l=0.0,
        exact_match=False,
    )


LEFT = [answer("a", "good"), answer("b", "bad"), answer("c", "same"), answer("d", "one")]
RIGHT = [answer("d", "two"), answer("c", "same"), answer("b", "good"), answer("a", "bad")]


def judge_prompt(prompt: str) -> str:
    """Prefers `good`; of `one` and `two`, whichever stands first; says nothing of the rest."""
    first, second = prompt.split("[Answer A]\n")[1].split("\n\n[Answer B]\n")
    second = second.split("\n\nReply")[0]
    if first == "good":
        return "Because ... [[A]]"
    if second == "good":
        return "[[B]]"
    return "[[C]]" if first == second else "I like A: [[A]]"


class Endpoint:
    def __init__(self, reply: Callable[[str], str] = judge_prompt) -> None:
        self.reply = reply
        self.asked: list[str] = []
        self.fail_from: int | None = None
        self.statuses: list[int] = []
        self.models = httpx.Response(404, text="no such route")
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer key"
        if request.url.path == "/v1/models":
            return self.models
        assert request.url.path == "/v1/chat/completions"
        if self.statuses:
            return httpx.Response(self.statuses.pop(), text="later", headers={"Retry-After": "3"})
        if self.fail_from is not None and len(self.asked) >= self.fail_from:
            return httpx.Response(401, text="no credit")
        self.bodies.append(json.loads(request.content))
        prompt = self.bodies[-1]["messages"][0]["content"]
        self.asked.append(prompt)
        return httpx.Response(200, json={"choices": [{"message": {"content": self.reply(prompt)}}]})

    def judge(self) -> ChatClient:
        transport = httpx.MockTransport(self)
        return ChatClient("http://judge/v1", "key", model="j", transport=transport)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("engine.client.chat_client.time.sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("owner", ["vllm", "openai", None])
def test_no_default_of_the_server_decides(tmp_path: Path, owner: str | None) -> None:
    endpoint = Endpoint()
    if owner is not None:
        endpoint.models = httpx.Response(200, json={"data": [{"id": "j", "owned_by": owner}]})
    with endpoint.judge() as judge:
        compare(LEFT[:1], RIGHT[3:], judge, tmp_path / "journal")
    body, _ = endpoint.bodies
    assert (body["temperature"], body["top_p"], body["presence_penalty"]) == (0, 1, 0)
    assert body["max_tokens"] == REPLY_TOKENS
    assert "seed" not in body
    # Others than vLLM refuse what they do not know.
    assert body.get("repetition_penalty") == (1 if owner == "vllm" else None)
    assert body.get("top_k") == (0 if owner == "vllm" else None)


def test_both_orders_count_and_ties_stay(tmp_path: Path) -> None:
    endpoint = Endpoint()
    with endpoint.judge() as judge:
        result = compare(LEFT, RIGHT, judge, tmp_path / "journal.jsonl")
    assert len(endpoint.asked) == 8
    assert (result.wins, result.losses, result.ties) == (1, 1, 2)
    assert result.inconsistent == 1  # `one` and `two`: the judge went by position
    assert result.win_rate == 0.5


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    endpoint = Endpoint()
    endpoint.fail_from = 5
    with endpoint.judge() as judge, pytest.raises(EngineError, match="401: no credit"):
        compare(LEFT, RIGHT, judge, journal, at_once=1)
    assert len(journal.read_text().splitlines()) == 5
    with journal.open("a") as stream:
        stream.write('{"torn": ')
    again = Endpoint()
    with again.judge() as judge:
        result = compare(LEFT, RIGHT, judge, journal)
    assert len(again.asked) == 3
    with Endpoint().judge() as judge:
        assert compare(LEFT, RIGHT, judge, tmp_path / "whole.jsonl") == result
    other = [answer("a", "better"), *LEFT[1:]]
    with again.judge() as judge:  # another answer is judged anew
        compare(other, RIGHT, judge, journal)
    assert len(again.asked) == 5


def test_another_comparison_at_the_same_journal_is_refused(tmp_path: Path) -> None:
    journal, endpoint = tmp_path / "judge.jsonl", Endpoint()
    with endpoint.judge() as judge:
        with (
            RunLock(tmp_path / "judge.jsonl.lock"),
            pytest.raises(InputError, match=r"judge\.jsonl: another process works on this comp"),
        ):
            compare(LEFT, RIGHT, judge, journal)
        assert endpoint.asked == []
        assert compare(LEFT, RIGHT, judge, journal).pairs == 4


def test_passing_failures_are_tried_again(tmp_path: Path, pauses: list[float]) -> None:
    endpoint = Endpoint()
    endpoint.statuses = [503, 429]
    with endpoint.judge() as judge:
        assert compare(LEFT[:1], RIGHT[3:], judge, tmp_path / "journal").wins == 1
    assert pauses == [3.0, 3.0]


def test_a_reply_without_a_verdict_is_a_tie_and_told(tmp_path: Path) -> None:
    endpoint = Endpoint(lambda _: "Both are nice.")
    with endpoint.judge() as judge:
        result = compare(LEFT, RIGHT, judge, tmp_path / "journal")
    assert (result.ties, result.unclear, result.inconsistent) == (4, 8, 0)


def test_both_sides_must_answer_the_same(tmp_path: Path) -> None:
    with Endpoint().judge() as judge, pytest.raises(InputError, match="record a/1: the right side"):
        compare(LEFT, RIGHT[:-1], judge, tmp_path / "journal")


def test_no_pair_is_even() -> None:
    assert summarise(iter(())).win_rate is None


def test_broken_outputs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    line = LEFT[0].model_dump_json()
    for text, told in (
        (
            f"{line}\n{{}}\n",
            "outputs.jsonl, record line 2, field 'task_id': broken line: Fi",
        ),
        (f"{line}\n{line}\n", "record line 2, field 'instance_id': a/1 is answered by an earlier"),
        ("\n", "outputs.jsonl: holds no answer"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=re.escape(told)):
            read_outputs(path)
    path.write_text(f"{line}\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"outputs.jsonl: not UTF-8: it looks like UTF-16"):
        read_outputs(path)
    path.write_text(f"\ufeff{line}\n\n", encoding="utf-8")
    assert read_outputs(path) == [LEFT[0]]
    with pytest.raises(InputError, match="cannot be read"):
        read_outputs(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"notes of mine", b'{"task_id": 1}', b"\n"])
def test_another_file_is_no_journal(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    endpoint = Endpoint()
    with endpoint.judge() as judge, pytest.raises(InputError, match=r"notes.txt: is there and no"):
        compare(LEFT, RIGHT, judge, path)
    assert path.read_bytes() == content
    assert not endpoint.asked
    assert list(tmp_path.iterdir()) == [path]
