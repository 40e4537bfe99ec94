"""The routes and what stands before them, on an engine in memory."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import ValidationError

from engine.keys import read_keys
from engine.protocol.api import PromptUncertaintyRequest
from engine.protocol.completions import CompletionLogprobsRequest
from engine.protocol.limits import Limits
from engine.questions import scorer as scoring
from engine.questions.pair_plan import plan_task
from engine.server.http.answers import kept_alive
from engine.server.keep_running.pulse import Pulse
from engine.server.reload import admission
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.server.http.fake_server import FakeEngine, FakeLiveWeights, make_app
from tests.engine.weights.made_manifests import publish

CONFIG = {"n_instances": 2, "n_perturbations": 2, "max_output_tokens": 4}
PAIRS = {"pairs": [{"prompt_token_ids": [1, 2], "completion_token_ids": [3, 4]}] * 3}


def tasks(*ids: str) -> dict[str, Any]:
    return {"tasks": [make_task(name).model_dump() for name in ids], "config": CONFIG}


def server(limits: Limits | None = None, **more: Any) -> tuple[FakeLiveWeights, FastAPI]:
    limits = limits or Limits()
    live = FakeLiveWeights(FakeEngine(), None, limits)
    return live, make_app(live, limits, **more)


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def ask(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(app) as http:
            return await http.request(method, path, **more)

    return asyncio.run(run())


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"jostle:{name}", labels) or 0.0


def test_scores_as_one_body_and_as_lines_are_the_same() -> None:
    _, app = server()
    whole = ask(app, "POST", "/v1/prompt_uncertainty", json=tasks("a", "b"))
    assert whole.status_code == 200
    lines = ask(app, "POST", "/v1/prompt_uncertainty", json=tasks("a", "b") | {"stream": True})
    assert lines.headers["content-type"] == "application/x-ndjson"
    *scores, totals = map(json.loads, lines.text.splitlines())
    assert scores == whole.json()["scores"]
    assert totals == {
        "done": True,
        "tasks": 2,
        "skipped": 0,
        "weights_version": "base",
        "usage": whole.json()["usage"],
    }


def test_tasks_are_checked_as_those_of_files_are() -> None:
    _, app = server()
    body = tasks("a")
    body["tasks"][0]["instances"] = [{"id": "1", "input": "x y"}, {"id": "1", "input": "a b"}]
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "id")
    assert error["message"].startswith("record a, instances[1], field 'id': '1' is also the id of")
    body["tasks"].append(make_task("b").model_dump())
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=body | {"on_fault": "skip"}).json()
    assert [score["task_id"] for score in answer["scores"]] == ["b"]
    assert [skipped["task_id"] for skipped in answer["skipped"]] == ["a"]
    body["tasks"][0]["id"] = "a\n"
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=body)
    assert answer.status_code in (400, 422)
    assert "an id must not" in answer.text


def test_metrics_count_what_was_done() -> None:
    live, app = server()
    names = ("pairs_total", "tokens_computed_total", "tokens_reused_total")
    before = [metric(name) for name in names]
    labels = {"route": "POST /v1/completion_logprobs", "status": "200"}
    requests = metric("requests_total", **labels)
    usage = ask(app, "POST", "/v1/completion_logprobs", json=PAIRS).json()["usage"]
    computed = usage["tokens_submitted"] - usage["tokens_reused"]
    assert [metric(name) - old for name, old in zip(names, before, strict=True)] == [
        3,
        computed,
        usage["tokens_reused"],
    ]
    assert metric("requests_total", **labels) - requests == 1
    asyncio.run(live.start())
    assert metric("live_version", version="base") == 1


SAMPLED = CONFIG | {"measure": "output_disagreement", "sampling": {"n_samples": 3}}


def test_samples_come_with_the_same_request_and_shape() -> None:
    _, app = server()
    before = [metric(name) for name in ("samples_total", "tokens_sampled_total")]
    body = tasks("a", "b") | {"config": SAMPLED}
    whole = ask(app, "POST", "/v1/prompt_uncertainty", json=body).json()
    after = [metric(name) for name in ("samples_total", "tokens_sampled_total")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [
        2 * 2 * 3 * 3,
        whole["usage"]["tokens_sampled"],
    ]
    lines = ask(app, "POST", "/v1/prompt_uncertainty", json=body | {"stream": True}).text
    *scores, totals = map(json.loads, lines.splitlines())
    assert scores == whole["scores"]
    assert totals["usage"] == whole["usage"]
    found = scores[0]["answers"]["output_disagreement"]
    assert len(found["rows"]) == 2 * 3 * 3
    assert 0 <= found["values"]["output_disagreement"] <= 1
    assert scores[0]["prompt_uncertainty"] > 0, "next to the likelihood form"


def test_labels_come_with_the_same_request_and_shape() -> None:
    _, app = server()
    config = CONFIG | {"measure": "label_bald"}
    body = tasks("a", "b") | {"config": config}
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["record"], error["param"]) == ("a", "labels")
    for task in body["tasks"]:
        task["labels"] = ["blue", "red"]
    scores = ask(app, "POST", "/v1/prompt_uncertainty", json=body).json()["scores"]
    found = [score["answers"]["label_bald"] for score in scores]
    assert [len(each["rows"]) for each in found] == [2 * 3 * 2] * 2
    assert found[0]["values"]["label_entropy"] >= found[0]["values"]["label_bald"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"measure": "doubt"}, "config.measure"),
        ({"sampling": {"n_samples": 65}}, "config.sampling.n_samples"),
        ({"sampling": {"temperature": 0.001}}, "config.sampling"),
        ({"sampling": {"top_k": 3}}, "config.sampling.top_k"),
    ],
)
def test_wrong_sampling_is_a_400_that_names_the_field(config: Any, field: str) -> None:
    _, app = server()
    answer = ask(
        app, "POST", "/v1/prompt_uncertainty", json=tasks("a") | {"config": SAMPLED | config}
    )
    assert answer.status_code == 400
    assert field in (answer.json()["error"]["param"] or "") + answer.json()["error"]["message"]


def test_samples_count_towards_the_limit_of_tokens() -> None:
    live, app = server(Limits(tokens=1000))
    assert ask(app, "POST", "/v1/prompt_uncertainty", json=tasks("a")).status_code == 200
    live.fake.calls.clear()
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=tasks("a") | {"config": SAMPLED})
    assert answer.status_code == 413
    assert "tokens, the server's limit is 1,000" in answer.json()["error"]["message"]
    assert live.fake.calls == []


def test_request_ids() -> None:
    _, app = server()
    for given, kept in (("run-7.a:b", True), ("two words", False), ("x" * 129, False)):
        answer = ask(app, "GET", "/v1/weights", headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) is kept
    assert "X-Request-Id" not in ask(app, "GET", "/health").headers


@pytest.mark.parametrize(
    ("limits", "path", "body", "message"),
    [
        ({"tasks": 1}, "prompt_uncertainty", tasks("a", "b"), "2 tasks.*limit is 1"),
        ({"instances": 2}, "prompt_uncertainty", tasks("a"), "a, field 'instances': 3 instances"),
        ({"tokens": 50}, "prompt_uncertainty", tasks("a"), "tokens, the server's limit is 50"),
        ({"pairs": 2}, "completion_logprobs", PAIRS, "3 pairs.*--limit pairs=N"),
        ({"tokens": 11}, "completion_logprobs", PAIRS, "12 tokens.*limit is 11"),
        ({"body_bytes": 99}, "completion_logprobs", PAIRS, "limit of 99 bytes"),
    ],
)
def test_limits(limits: dict[str, int], path: str, body: Any, message: str) -> None:
    live, app = server(Limits.model_validate(limits))
    answer = ask(app, "POST", f"/v1/{path}", json=body)
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["code"] == 413
    assert re.search(message, error["message"])
    assert live.fake.calls == []


def test_a_body_without_a_length_is_limited_too() -> None:
    _, app = server(Limits(body_bytes=1000))

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    for path in ("/v1/completion_logprobs", "/v1/completions"):
        assert ask(app, "POST", path, content=body()).status_code == 413


@pytest.mark.parametrize(
    ("body", "param", "record"),
    [
        (tasks("a", "a"), "tasks.id", "a"),
        ({"tasks": [make_task("a", n_instances=0).model_dump()]}, "instances", "a"),
    ],
)
def test_errors_name_record_and_field(body: Any, param: str, record: str) -> None:
    _, app = server()
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["record"], error["type"]) == (param, record, "BadRequestError")
    assert record in error["message"]


def test_an_error_in_a_stream_is_its_last_line() -> None:
    live, app = server()
    live.fake.faults["b/i0/j=1"] = lambda: None
    body = tasks("a", "b", "c") | {"stream": True}
    lines = ask(app, "POST", "/v1/prompt_uncertainty", json=body).text.splitlines()
    assert json.loads(lines[0])["task_id"] == "a"
    error = json.loads(lines[-1])["error"]
    assert error["code"] == 500
    assert "b/i0/j=1" in error["message"]
    assert len(lines) == 2


def test_ready_says_which_start_of_a_server_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    live, app = server()
    monkeypatch.setenv("JOSTLE_SERVER", "this one")
    for status in (200, 503):
        answer = ask(app, "GET", "/ready")
        assert (answer.status_code, answer.headers["X-Jostle-Server"]) == (status, "this one")
        live.pretend(usable=False)
    monkeypatch.delenv("JOSTLE_SERVER")  # vLLM was started by hand
    assert "X-Jostle-Server" not in ask(app, "GET", "/ready").headers


def test_a_slow_reader_costs_a_load_its_turn_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "check_checkpoint", lambda *_: None)
    limits = Limits(wait_seconds=60, drain_seconds=0.05)
    live = FakeLiveWeights(FakeEngine(), tmp_path, limits, start=tmp_path)
    app = make_app(live, limits)
    version = publish(tmp_path / "one")
    ended: list[str] = []

    async def run() -> None:
        async def noted(name: str, answer: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
            got = await answer
            ended.append(name)
            return got

        async with client(app) as http:
            async with live.gate.reading(1):  # the slow reader
                body = {"path": str(tmp_path / "one"), "version": version}
                load = asyncio.create_task(noted("load", http.post("/v1/weights", json=body)))
                await asyncio.sleep(0.02)
                late = await noted("late", http.post("/v1/completions", json={}))
                refused = await load
            assert late.status_code == 200
            assert refused.status_code == 503
            assert (
                "0.05 s were not enough for the requests in flight to end; base is still live"
                in (refused.json()["error"]["message"])
            )
            assert (await http.post("/v1/weights", json=body)).status_code == 200

    asyncio.run(run())
    assert sorted(ended) == ["late", "load"]


def test_templates_are_taken_where_the_operator_allows_them() -> None:
    own = {"layout": "template", "template": "{{ definition }} {{ input }}"}
    body = tasks("a") | {"config": CONFIG | {"prompt": own}}
    answer = ask(server()[1], "POST", "/v1/prompt_uncertainty", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "config.prompt.template"
    assert "start it with -- --trust-request-chat-template" in error["message"]
    _, allowing = server(templates=True)
    assert ask(allowing, "POST", "/v1/prompt_uncertainty", json=body).status_code == 200


@pytest.mark.parametrize(
    ("config", "at_least"),
    [
        ({"n_perturbations": 1000}, 1 * 2 * 1001 * 5),
        ({"max_output_tokens": 4096}, 1 * 2 * 3 * 4097),
        (SAMPLED | {"sampling": {"n_samples": 64}}, 1 * 2 * 3 * 5 * 65),
    ],
)
def test_what_is_too_large_in_any_case_is_not_rendered(
    config: dict[str, Any], at_least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "plan_task", lambda *_: pytest.fail("rendered"))
    body = tasks("a") | {"config": CONFIG | config}
    answer = ask(server(Limits(tokens=1000))[1], "POST", "/v1/prompt_uncertainty", json=body)
    assert answer.status_code == 413
    assert f"{at_least:,} tokens, the server's limit is 1,000" in answer.json()["error"]["message"]


def test_the_task_that_exceeds_the_limit_is_the_last_one_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[str] = []

    def plan(task: Task, *more: Any) -> Any:
        rendered.append(task.id)
        return plan_task(task, *more)

    monkeypatch.setattr(scoring, "plan_task", plan)
    _, app = server(Limits(tokens=400))
    answer = ask(app, "POST", "/v1/prompt_uncertainty", json=tasks("a", "b", "c", "d", "e"))
    assert answer.status_code == 413
    assert 0 < len(rendered) < 5


def test_while_weights_load_requests_wait_and_then_get_a_503() -> None:
    live, app = server(Limits(wait_seconds=0.05))

    async def run() -> None:
        async with client(app) as http:
            async with live.gate.writing(1):
                for path in ("/v1/completion_logprobs", "/v1/completions"):
                    answer = await http.post(path, json=PAIRS)
                    assert answer.status_code == 503
                    assert answer.headers["Retry-After"] == "5"
                    assert answer.json()["error"]["code"] == 503
                assert (await http.get("/v1/weights")).status_code == 200
            waiting = asyncio.create_task(http.post("/v1/completions", json={}))
            assert (await waiting).status_code == 200

    asyncio.run(run())


def test_released_weights_serve_nothing_until_they_are_back() -> None:
    live, app = server()
    answer = ask(app, "DELETE", "/v1/weights")
    assert answer.status_code == 400
    assert "--enable-sleep-mode" in answer.json()["error"]["message"]
    live.fake.engine.sleeps = True
    assert ask(app, "DELETE", "/v1/weights").json()["version"] == "base"
    for method, path, body in (("POST", "/v1/completion_logprobs", PAIRS), ("GET", "/ready", None)):
        refused = ask(app, method, path, json=body)
        assert refused.status_code == 503
        assert "the weights are released; PUT /v1/weights" in refused.json()["error"]["message"]
    assert ask(app, "GET", "/health").status_code == 200
    assert ask(app, "PUT", "/v1/weights").json()["version"] == "base"
    assert ask(app, "POST", "/v1/completion_logprobs", json=PAIRS).status_code == 200


def test_a_stream_is_not_silent_for_long() -> None:
    ended: list[str] = []

    async def lines() -> AsyncGenerator[str, None]:
        try:
            yield "a\n"
            await asyncio.sleep(0.25)
            yield "b\n"
        finally:
            ended.append("ended")

    async def run(n_lines: int) -> list[str]:
        found = []
        async with aclosing(kept_alive(lines(), 0.1)) as stream:
            async for line in stream:
                found.append(line)
                if len(found) == n_lines:
                    break
        return found

    assert asyncio.run(run(9)) == ["a\n", "\n", "\n", "b\n"]
    assert asyncio.run(run(2)) == ["a\n", "\n"]
    assert ended == ["ended", "ended"], "also where nobody listens to the end"


def test_too_many_requests_at_once() -> None:
    live, app = server(Limits(requests=1))
    live.fake.held = lambda name: True

    async def run() -> None:
        async with client(app) as http:
            first = asyncio.create_task(http.post("/v1/completion_logprobs", json=PAIRS))
            while not live.fake.calls:
                await asyncio.sleep(0.001)
            second = await http.post("/v1/completion_logprobs", json=PAIRS)
            assert second.status_code == 503
            assert "Retry-After" in second.headers
            assert (await http.post("/v1/completions", json={})).status_code == 200
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "given", "held"),
    [
        ("prompt_uncertainty", tasks("a", "b"), "b/i0/j=1"),
        ("completion_logprobs", PAIRS, "pairs[2]"),
    ],
)
def test_a_client_that_goes_away_cancels_its_work(
    path: str, given: Any, held: str, stream: bool
) -> None:
    live, app = server()
    live.fake.held = lambda name: name == held
    body = json.dumps(given | {"stream": stream}).encode()
    sent: list[Any] = []

    async def run() -> None:
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/v1/{path}",
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
        }
        serving = asyncio.ensure_future(app(scope, receive, send))
        while held not in live.fake.calls:
            await asyncio.sleep(0.001)
        gone.set()
        await asyncio.wait_for(serving, 5)
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert live.fake.pending == 0
    assert live.fake.cancelled
    assert live.gate.readers == 0


def test_ready_and_healthy() -> None:
    live, app = server()
    assert ask(app, "GET", "/ready").json() == {"ready": True, "weights_version": "base"}
    live.pretend(loading=True)
    answer = ask(app, "GET", "/ready")
    assert answer.status_code == 503
    assert "being loaded" in answer.json()["error"]["message"]
    assert ask(app, "GET", "/health").status_code == 200, "it lives, it is only busy"
    live.pretend(loading=False, usable=False)
    assert ask(app, "GET", "/ready").status_code == 503
    assert ask(app, "GET", "/health").status_code == 503
    assert ask(app, "POST", "/v1/completions", json={}).status_code == 503
    live.pretend(usable=True)
    app.state.jostle_pulse = Pulse(lambda: None, [], 0.0, lambda: False)
    assert "does not answer" in ask(app, "GET", "/ready").json()["error"]["message"]


def test_keys_stand_before_everything() -> None:
    keys = read_keys({"VLLM_API_KEY": "k", "JOSTLE_ADMIN_KEY": "a"})
    _, app = server(keys=keys)
    for path in ("/v1/weights", "/openapi.json", "/docs", "/v1/completions"):
        assert ask(app, "GET", path).status_code == 401
    headers = {"Authorization": "Bearer k"}
    assert ask(app, "GET", "/v1/weights", headers=headers).status_code == 200
    body = {"path": "/x", "version": "v"}
    assert ask(app, "POST", "/v1/weights", headers=headers, json=body).status_code == 403
    assert ask(app, "GET", "/ready").status_code == 200


BAD = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe\x00",
    b'{"tasks": []}',
    b'{"pairs": []}',
    b'{"pairs": [{"prompt_token_ids": [], "completion_token_ids": []}]}',
    b'{"pairs": [{"prompt_token_ids": [1e400], "completion_token_ids": [1]}]}',
    b'{"pairs": [{"prompt_token_ids": [-1], "completion_token_ids": [1]}]}',
    b'{"pairs": [{"prompt_token_ids": [NaN], "completion_token_ids": [1]}]}',
    b'{"pairs": [{"prompt_token_ids": [%d], "completion_token_ids": [1]}]}' % 10**300,
    b'{"pairs": [{"prompt_token_ids": [' + b"9" * 5000 + b'], "completion_token_ids": [1]}]}',
    b'{"tasks": [{"id": "\\ud800", "definition": "x"}]}',
    b'{"tasks": [{"id": "a", "definition": "' + b"x" * 10_000_000 + b'"}]}',
    b'{"tasks": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"path": "a\\u0000b", "version": "v"}',
    b'{"path": "' + b"a/" * 2000 + b'", "version": "v"}',
    b'{"path": "/x", "version": "v", "kind": "pickle"}',
]


@pytest.mark.parametrize("path", ["prompt_uncertainty", "completion_logprobs", "weights"])
@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_nonsense_is_a_400(path: str, body: bytes) -> None:
    _, app = server()
    answer = ask(
        app, "POST", f"/v1/{path}", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert len(answer.content) < 20_000


FAULTY: list[Any] = [-100] * 5_000
PAIR = PAIRS["pairs"][0]


@pytest.mark.parametrize(
    "pairs",
    [
        FAULTY,
        [PAIR | {"prompt_token_ids": FAULTY}],
        [PAIR | {"candidate_token_ids": FAULTY}],
        [PAIR | {"candidate_token_ids": [FAULTY]}],
        [PAIR | {"candidate_token_ids": [FAULTY] * 5_000}] * 5,
        [{"messages": FAULTY}],
    ],
)
def test_one_fault_of_a_list_is_told(pairs: Any) -> None:
    with pytest.raises(ValidationError) as found:
        CompletionLogprobsRequest.model_validate({"pairs": pairs})
    assert found.value.error_count() < 5


@pytest.mark.parametrize(
    "change",
    [
        *({name: FAULTY} for name in ("positive_examples", "negative_examples", "instances")),
        {"labels": FAULTY},
        {"instances": [{"id": "1", "input": "", "outputs": FAULTY}] * 5},
    ],
)
def test_one_fault_of_a_list_of_a_task_is_told(change: dict[str, Any]) -> None:
    faulty = [make_task("a").model_dump() | change] * 5
    for sent in (faulty, FAULTY):
        with pytest.raises(ValidationError) as found:
            PromptUncertaintyRequest.model_validate({"tasks": sent})
        assert found.value.error_count() < 5


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("completion_logprobs", PAIRS | {"x": 1}, "field 'x': is no field of this record"),
        ("completion_logprobs", PAIRS, "the body holds 1,001 unknown fields"),
        ("prompt_uncertainty", tasks("a"), "the body holds 1,001 unknown fields"),
        ("weights", {"path": "/x", "version": "v"}, "the body holds 1,001 unknown fields"),
    ],
)
def test_millions_of_faults_are_told_as_one(path: str, body: Any, message: str) -> None:
    many = {} if "x" in body else {f"x{n}": 0 for n in range(1_001)}
    answer = ask(server()[1], "POST", f"/v1/{path}", json=body | many)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def test_half_a_surrogate_pair_is_the_fault_of_its_task() -> None:
    _, app = server()
    body = tasks("a", "b")
    body["tasks"][0]["instances"][0]["input"] = "half \ud83d"
    headers = {"Content-Type": "application/json"}
    fault = "record a, instances[0], field 'input': not Unicode"

    def sent(body: Any) -> Any:
        content = json.dumps(body)
        return ask(app, "POST", "/v1/prompt_uncertainty", content=content, headers=headers).json()

    assert sent(body)["error"]["message"].startswith(fault)
    answer = sent(body | {"on_fault": "skip"})
    assert answer["skipped"][0]["reason"].startswith(fault)
    assert [score["task_id"] for score in answer["scores"]] == ["b"]


def test_no_such_route_has_the_same_shape() -> None:
    _, app = server()
    for method, path, code in (("GET", "/nowhere", 404), ("PATCH", "/v1/weights", 405)):
        answer = ask(app, method, path)
        assert answer.status_code == answer.json()["error"]["code"] == code


def test_openapi_is_complete_enough_to_generate_clients(tmp_path: Path) -> None:
    _, app = server()
    api = app.openapi()
    for path in ("prompt_uncertainty", "completion_logprobs", "weights"):
        post = api["paths"][f"/v1/{path}"]["post"]
        assert {"200", "400", "401", "503"} <= post["responses"].keys()
        assert "422" not in post["responses"]
        name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
        schema = api["components"]["schemas"][name]
        assert schema["examples"]
        assert "Attributes" not in schema["description"]
        assert all("description" in field for field in schema["properties"].values())
    names = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(api))
    assert set(names) <= api["components"]["schemas"].keys()
    lines = api["paths"]["/v1/prompt_uncertainty"]["post"]["responses"]["200"]["content"]
    assert "application/x-ndjson" in lines
    for example, path in (
        (api["components"]["schemas"]["PromptUncertaintyRequest"], "prompt_uncertainty"),
        (api["components"]["schemas"]["CompletionLogprobsRequest"], "completion_logprobs"),
    ):
        answer = ask(app, "POST", f"/v1/{path}", json=example["examples"][0])
        assert answer.status_code == 200
