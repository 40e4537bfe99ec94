"""Whatever a client sends that follows or breaks the OpenAPI description, no answer is a 500."""

from __future__ import annotations

import collections
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import not_a_server_error

from engine.protocol.limits import Limits
from tests.engine.server.http.fake_server import FakeEngine, FakeLiveWeights, make_app

CASES = 700
"""Per route that takes a body, of which there are three."""


def app() -> FastAPI:
    limits = Limits(tasks=20, instances=20, tokens=200_000)
    return make_app(FakeLiveWeights(FakeEngine(), None, limits), limits)


schema = schemathesis.openapi.from_asgi("/openapi.json", app()).include(
    path_regex="^/v1/(prompt_uncertainty|completion_logprobs|weights)$"
)
schema.config.generation.update(modes=list(schemathesis.GenerationMode))
tried: collections.Counter[str] = collections.Counter()


@pytest.mark.long
@schema.parametrize()
@hypothesis.settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_no_answer_is_a_500(case: schemathesis.Case[Any]) -> None:
    answer = case.call()
    tried[f"{case.method} {case.path}"] += 1
    case.validate_response(answer, checks=[not_a_server_error])


@pytest.mark.long
def test_enough_was_tried() -> None:
    print(dict(tried), sum(tried.values()))
    assert sum(tried.values()) >= 2_000
