"""Whatever a client sends to the real server, no answer of ours is a 500 and it goes on scoring."""

from __future__ import annotations

import collections
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from tests.engine.server.http.test_routes import BAD

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1_800)]

ROUTES = "^/v1/(prompt_uncertainty|completion_logprobs|weights)$"

CASES = {schemathesis.GenerationMode.POSITIVE: 60, schemathesis.GenerationMode.NEGATIVE: 800}
"""Cases per route. What is right is scored, by a real model."""

SETTINGS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def test_nonsense_is_a_400(server: EngineProcess, client: EngineClient) -> None:
    json = {"Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, timeout=600, headers=json) as http:
        for route in ("prompt_uncertainty", "completion_logprobs", "weights"):
            for body in BAD:
                answer = http.post(f"/v1/{route}", content=body)
                assert answer.status_code in (400, 422), (route, body[:80], answer.text[:300])
                assert answer.json()["error"]["code"] == answer.status_code
    assert httpx.get(f"{server.url}/ready", timeout=600).status_code == 200


@pytest.mark.parametrize("share", [1 / 20, pytest.param(1, marks=pytest.mark.long)])
def test_no_answer_is_a_500(server: EngineProcess, share: float) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json").include(
        path_regex=ROUTES, method="POST"
    )
    tried: collections.Counter[str] = collections.Counter()

    def check(case: schemathesis.Case[Any]) -> None:
        answer = case.call(timeout=600)
        tried[f"{case.method} {case.path}: {answer.status_code}"] += 1
        case.validate_response(answer, checks=[not_a_server_error])

    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode, most in CASES.items():
            n_cases = round(most * share)
            cases = operation.as_strategy(generation_mode=mode)
            settings = hypothesis.settings(SETTINGS, max_examples=n_cases)
            settings(hypothesis.given(case=cases)(check))()
            print(operation.path, mode.name, n_cases, flush=True)
    print(dict(tried), sum(tried.values()))
    assert sum(tried.values()) >= 2_000 * share
    assert httpx.get(f"{server.url}/ready", timeout=600).status_code == 200
