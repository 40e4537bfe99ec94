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

FEW, MANY = 20, 700
"""Cases per route, always the same ones. Three routes take a body."""


def app() -> FastAPI:
    limits = Limits(tasks=20, instances=20, tokens=200_000)
    return make_app(FakeLiveWeights(FakeEngine(), None, limits), limits)


schema = schemathesis.openapi.from_asgi("/openapi.json", app()).include(
    path_regex="^/v1/(prompt_uncertainty|completion_logprobs|weights)$"
)
schema.config.generation.update(modes=list(schemathesis.GenerationMode))
tried: collections.Counter[str] = collections.Counter()


def settings(n_cases: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=n_cases,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@pytest.mark.slow
@schema.parametrize()
@settings(FEW)
def test_of_a_few_cases_none_is_a_500(case: schemathesis.Case[Any]) -> None:
    case.validate_response(case.call(), checks=[not_a_server_error])


@pytest.mark.long
@schema.parametrize()
@settings(MANY)
def test_no_answer_is_a_500(case: schemathesis.Case[Any]) -> None:
    answer = case.call()
    tried[f"{case.method} {case.path}"] += 1
    case.validate_response(answer, checks=[not_a_server_error])


@pytest.mark.long
def test_enough_was_tried() -> None:
    print(dict(tried), sum(tried.values()))
    assert sum(tried.values()) >= 2_000
