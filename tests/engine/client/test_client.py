"""The client against a real HTTP server that answers as each test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient
from engine.client.chat_client import ChatClient
from engine.errors import EngineError, InputError
from engine.protocol.api import SkippedTask, Usage
from engine.protocol.completions import CompletionLogprobs, TokenPair
from engine.protocol.score_config import ScoreConfig
from tests.engine.client.canned_server import (
    CONFIG,
    Answer,
    Request,
    Server,
    error_line,
    make_score,
    score_ids,
    score_line,
    totals_line,
    well_behaved,
)
from tests.engine.examples import make_task
from tests.engine.weights.served import live

# --- Scoring ----------------------------------------------------------------------------------


def test_scores_arrive_whole_and_in_order(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    scores = list(client.score([make_task("a"), make_task("b")], CONFIG))
    assert scores == [make_score("a"), make_score("b")]
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/prompt_uncertainty")
    assert request.body["stream"] is True
    assert ScoreConfig.model_validate(request.body["config"]) == CONFIG


def test_a_score_is_there_before_the_next_one_is_sent(server: Server, client: EngineClient) -> None:
    wait = threading.Event()
    server.answer = lambda request: Answer(
        chunks=[score_line("a"), score_line("b") + totals_line(2)], wait=wait
    )
    scores = client.score([make_task("a"), make_task("b")], CONFIG)
    assert next(scores).task_id == "a"
    wait.set()
    assert [score.task_id for score in scores] == ["b"]


def test_empty_lines_tell_of_work_and_nothing_else(server: Server, client: EngineClient) -> None:
    body = b"\n" + score_line("a") + b"\n\n" + totals_line(1)
    server.answer = lambda request: Answer(chunks=[body])
    assert score_ids(client, "a") == ["a"]


def test_lines_may_be_cut_anywhere_on_the_way(server: Server, client: EngineClient) -> None:
    body = score_line("ä🙂") + totals_line(1)
    server.answer = lambda request: Answer(chunks=[body[i : i + 7] for i in range(0, len(body), 7)])
    assert score_ids(client, "ä🙂") == ["ä🙂"]


def test_texts_may_hold_what_unicode_calls_a_line_end(server: Server, client: EngineClient) -> None:
    text = "a\u2028b\u2029c\x85d"
    server.answer = lambda request: Answer(
        chunks=[
            json.dumps({"task_id": "t", "reason": text}, ensure_ascii=False).encode() + b"\n",
            totals_line(0).replace(b'"done"', b'"skipped": 1, "done"'),
        ]
    )
    skipped: list[SkippedTask] = []
    assert list(client.score([make_task("t")], CONFIG, on_skip=skipped.append)) == []
    assert [one.reason for one in skipped] == [text]


def test_what_is_too_much_at_once_is_sent_in_parts(server: Server) -> None:
    sizes: list[int] = []

    def answer(request: Request) -> Answer:
        sizes.append(len(request.body["tasks"]))
        if sizes[-1] > 2:
            told = {"error": {"message": "9 tokens, the server's limit is 5", "param": "tasks"}}
            return Answer(413, [json.dumps(told).encode()])
        return well_behaved(request)

    server.answer = answer
    with EngineClient(server.url) as client:
        assert score_ids(client, *"abcdefg") == [*"abcdefg"]
        assert sizes == [7, 4, 2, 3, 2, 3, 2, 1], "one more after each success"
    told = {"error": {"message": "9 tokens, the server's limit is 5", "param": "tasks"}}
    server.answer = lambda request: Answer(413, [json.dumps(told).encode()])
    with EngineClient(server.url) as client, pytest.raises(InputError, match="limit is 5"):
        score_ids(client, *"abc")


def test_only_the_sampled_instances_are_sent(server: Server, client: EngineClient) -> None:
    server.answer = well_behaved
    task = make_task("a", n_instances=30)
    list(client.score([task], CONFIG))
    (sent,) = server.requests[0].body["tasks"]
    sampled = task.sample_instances(CONFIG.n_instances, CONFIG.seed)
    assert [instance["id"] for instance in sent["instances"]] == [i.id for i in sampled]
    assert len(sent["positive_examples"]) == len(task.positive_examples)


def test_tasks_are_sent_in_batches_one_after_the_other(server: Server) -> None:
    server.answer = well_behaved
    taken: list[str] = []

    def pool() -> Iterator[Any]:
        for index in range(7):
            taken.append(str(index))
            yield make_task(str(index))

    with EngineClient(server.url, tasks_per_request=3) as client:
        scores = client.score(pool(), CONFIG)
        assert next(scores).task_id == "0"
        assert taken == ["0", "1", "2"], "the pool is read as far as needed"
        assert [score.task_id for score in scores] == ["1", "2", "3", "4", "5", "6"]
    batches = [[task["id"] for task in request.body["tasks"]] for request in server.requests]
    assert batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_no_tasks_no_request(server: Server, client: EngineClient) -> None:
    assert list(client.score([], CONFIG)) == []
    assert server.requests == []


def test_the_api_key_is_sent_as_bearer_token(server: Server) -> None:
    server.answer = well_behaved
    with EngineClient(server.url, api_key="secret") as client:
        assert score_ids(client, "a") == ["a"]
    assert server.requests[0].headers["Authorization"] == "Bearer secret"
    for wrong in ("secret\n", "schl\xfcssel"):
        opens: list[Callable[..., object]] = [EngineClient, partial(ChatClient, model="judge")]
        for opened in opens:
            with pytest.raises(InputError, match="'api_key': is no key") as told:
                opened(server.url, api_key=wrong)
            assert wrong.strip() not in str(told.value)


# --- The other calls --------------------------------------------------------------------------


def test_completion_logprobs(server: Server, client: EngineClient) -> None:
    answer = {
        "weights_version": "v1",
        "results": [CompletionLogprobs.of(0, "v1", 2, [-0.5, -1.0]).model_dump()],
        "usage": Usage(pairs=1).model_dump(),
    }
    server.answer = lambda request: Answer(chunks=[json.dumps(answer).encode()])
    pair = TokenPair(prompt_token_ids=(1, 2), completion_token_ids=(3, 4))
    found = client.completion_logprobs([pair])
    assert found.results[0].mean_logprob == -0.75
    assert server.requests[0].path == "/v1/completion_logprobs"
    assert server.requests[0].body["pairs"] == [
        {
            "prompt_token_ids": [1, 2],
            "completion_token_ids": [3, 4],
            "candidate_token_ids": None,
        }
    ]


def test_weights(server: Server, client: EngineClient, tmp_path: Path) -> None:
    state = live("v2", str(tmp_path)).model_copy(update={"seconds": 0.5})
    server.answer = lambda request: Answer(chunks=[state.model_dump_json().encode()])
    assert client.weights().version == "v2"
    loaded = client.load_weights(tmp_path / "." / "x" / "..", "v2")
    assert loaded.seconds == 0.5
    assert [(r.method, r.path) for r in server.requests] == [
        ("GET", "/v1/weights"),
        ("POST", "/v1/weights"),
    ]
    assert server.requests[1].body == {
        "path": str(tmp_path),
        "version": "v2",
        "kind": None,
        "verify": "probes",
    }
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    client.load_weights(tmp_path / "link", "v2")
    assert server.requests[2].body["path"] == str(tmp_path / "link"), "a link of this machine's"


def test_a_model_of_the_hub_is_no_folder_here(server: Server, client: EngineClient) -> None:
    state = live("base-1", "some/model")
    server.answer = lambda request: Answer(chunks=[state.model_dump_json().encode()])
    client.load_weights(Path("some/model"), "base-1")
    assert server.requests[0].body["path"] == "some/model"


def test_refused_weights(server: Server, client: EngineClient, tmp_path: Path) -> None:
    server.answer = lambda request: Answer(400, [error_line(400, "no manifest.json", "path")])
    with pytest.raises(InputError, match=r"no manifest.json") as caught:
        client.load_weights(tmp_path, "v2")
    assert caught.value.field == "path"


def test_generate_asks_for_the_model_once_and_keeps_the_order(
    server: Server, client: EngineClient
) -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/v1/models":
            return Answer(chunks=[b'{"data": [{"id": "the-model"}]}'])
        choices = [{"index": index, "text": f"text {index}"} for index in (1, 0)]
        return Answer(chunks=[json.dumps({"choices": choices}).encode()])

    server.answer = answer
    assert client.generate([], 4) == []
    assert server.requests == []
    for _ in range(2):
        assert client.generate([[1, 2], [3]], 4) == ["text 0", "text 1"]
    assert [request.path for request in server.requests] == [
        "/v1/models",
        "/v1/completions",
        "/v1/completions",
    ]
    # What is not said, vLLM takes from the model's generation config.
    assert server.requests[1].body == {
        "model": "the-model",
        "prompt": [[1, 2], [3]],
        "max_tokens": 4,
        "temperature": 0,
        "n": 1,
        "top_p": 1,
        "top_k": 0,
        "min_p": 0,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "stop_token_ids": [],
    }
    client.generate([[1]], 4, end=7)
    assert server.requests[-1].body["stop_token_ids"] == [7]


@pytest.mark.parametrize("garbage", [b"<html>", b"", b"[]", b"{}", b'"x"', b'{"data": []}'])
def test_garbage_is_an_engine_error(
    server: Server, client: EngineClient, tmp_path: Path, garbage: bytes
) -> None:
    server.answer = lambda request: Answer(chunks=[garbage] if garbage else [])
    pair = TokenPair(prompt_token_ids=(1,), completion_token_ids=(2,))
    calls: list[Callable[[], object]] = [
        client.weights,
        lambda: client.load_weights(tmp_path, "v2"),
        lambda: client.completion_logprobs([pair]),
        lambda: client.generate([[1]], 4),
    ]
    for call in calls:
        with pytest.raises(EngineError, match=r"/v1/\w+: the server's answer is not understood"):
            call()
