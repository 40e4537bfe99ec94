"""The HTTP routes. Errors take vLLM's own shape: {"error": {message, type, param, code}}."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from engine.errors import InputError
from engine.process.engine_process import SERVER_HEADER, SERVER_VARIABLE
from engine.protocol.api import (
    PromptUncertaintyRequest,
    PromptUncertaintyResponse,
    SkippedTask,
    StreamTotals,
    TaskScore,
    Usage,
)
from engine.protocol.weights_state import LoadWeightsRequest, Readiness, WeightsState
from engine.questions.scorer import TaskScorer
from engine.server.http.answers import (
    error_response,
    json_response,
    kept_alive,
    limits_of,
    live_of,
)
from engine.server.http.failures import (
    FAILURES,
    CheckedRoute,
    FewFaults,
    answers,
    cancelled_with_its_client,
    failure_line,
    failure_response,
    lines,
)
from engine.server.http.middleware import RELEASED
from engine.server.keep_running.metrics import count_usage
from engine.server.keep_running.pulse import Pulse

router = APIRouter(tags=["jostle"], route_class=CheckedRoute)


@router.post(
    "/v1/prompt_uncertainty",
    response_model=PromptUncertaintyResponse,
    responses={
        **lines(
            "The scores; with `stream`, a line per finished task",
            TaskScore,
            SkippedTask,
            StreamTotals,
        ),
        **answers(400, 401, 408, 413, 500, 503),
    },
)
@cancelled_with_its_client
async def prompt_uncertainty(
    body: Annotated[PromptUncertaintyRequest, FewFaults], raw_request: Request
) -> Any:
    """Prompt uncertainty and prediction probability of each task, with all scored pairs.

    Where `config.measure` asks a question on top, what it brought is in `answers`.
    """
    live = live_of(raw_request)
    version = live.state.version
    try:
        limits = limits_of(raw_request)
        limits.check_tasks(body.tasks)
        templates = raw_request.app.state.args.trust_request_chat_template
        if body.config.prompt.template is not None and not templates:
            raise InputError(
                "this server takes no templates with requests; start it with "
                "-- --trust-request-chat-template",
                field="config.prompt.template",
            )
        scorer = TaskScorer(
            live.backend(body.cache_salt),
            body.config,
            version,
            skip_faulty=body.on_fault == "skip",
        )
        await scorer.check(body.tasks, functools.partial(limits.check, "tokens", field="tasks"))
        if body.stream:
            return StreamingResponse(
                kept_alive(_score_lines(scorer, body, version)), media_type="application/x-ndjson"
            )
        scores, skipped = [], []
        async for score in scorer.score(body.tasks):
            if isinstance(score, SkippedTask):
                skipped.append(score)
            else:
                count_usage(score.usage)
                scores.append(score)
    except FAILURES as error:
        return failure_response(error)
    usage = Usage.total(score.usage for score in scores)
    return json_response(
        PromptUncertaintyResponse(
            weights_version=version, scores=tuple(scores), usage=usage, skipped=tuple(skipped)
        )
    )


async def _score_lines(
    scorer: TaskScorer, body: PromptUncertaintyRequest, version: str
) -> AsyncGenerator[str, None]:
    """One line per finished task, then the totals; an error is the last line instead."""
    usage, tasks, skipped = Usage(), 0, 0
    try:
        async for score in scorer.score(body.tasks):
            if isinstance(score, SkippedTask):
                skipped += 1
            else:
                count_usage(score.usage)
                usage, tasks = usage + score.usage, tasks + 1
            yield score.model_dump_json() + "\n"
    except FAILURES as error:
        yield failure_line(error, f"{tasks} tasks")
        return
    totals = StreamTotals(tasks=tasks, skipped=skipped, weights_version=version, usage=usage)
    yield totals.model_dump_json() + "\n"


_WEIGHTS_ANSWERS = answers(400, 401, 403, 408, 500, 503)


@router.get("/v1/weights", response_model=WeightsState, responses=answers(401))
async def live_weights(raw_request: Request) -> WeightsState:
    """Which weights are live."""
    return live_of(raw_request).state


@router.post(
    "/v1/weights",
    response_model=WeightsState,
    responses=_WEIGHTS_ANSWERS,
)
async def load_weights(body: Annotated[LoadWeightsRequest, FewFaults], raw_request: Request) -> Any:
    """Makes a checkpoint or adapter live. Answers when verified, or why it is not."""
    try:
        return await live_of(raw_request).load(
            Path(body.path), body.version, body.kind, body.verify
        )
    except FAILURES as error:
        return failure_response(error)


@router.delete("/v1/weights", response_model=WeightsState, responses=_WEIGHTS_ANSWERS)
async def release_weights(raw_request: Request) -> Any:
    """Frees the device's memory, weights and cache, until they are brought back by PUT."""
    try:
        await live_of(raw_request).release()
    except FAILURES as error:
        return failure_response(error)
    return live_of(raw_request).state


@router.put("/v1/weights", response_model=WeightsState, responses=_WEIGHTS_ANSWERS)
async def restore_weights(raw_request: Request) -> Any:
    """Brings released weights back. Answers when they are verified, or why they are not."""
    try:
        await live_of(raw_request).restore()
    except FAILURES as error:
        return failure_response(error)
    return live_of(raw_request).state


@router.get("/ready", response_model=Readiness, responses=answers(503))
async def ready(raw_request: Request) -> Response:
    """200 when the engine can score and no load of weights is half done, else 503 with why."""
    live, pulse = live_of(raw_request), raw_request.app.state.jostle_pulse
    assert isinstance(pulse, Pulse)
    reason = None
    if not live.usable:
        reason = "a load of weights failed half way"
    elif live.released:
        reason = RELEASED
    elif live.loading:
        reason = "weights are being loaded"
    elif not pulse.beating:
        reason = "the engine does not answer"
    if reason is None:
        answer = json_response(Readiness(ready=True, weights_version=live.state.version))
    else:
        answer = error_response(503, f"not ready: {reason}")
    if name := os.environ.get(SERVER_VARIABLE):
        answer.headers[SERVER_HEADER] = name
    return answer
