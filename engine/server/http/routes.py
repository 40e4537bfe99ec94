"""The HTTP routes. Errors take vLLM's own shape: {"error": {message, type, param, code}}."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.errors import EngineError, InputError
from engine.process.engine_process import SERVER_HEADER, SERVER_VARIABLE
from engine.protocol.api import (
    PromptUncertaintyRequest,
    PromptUncertaintyResponse,
    SkippedTask,
    StreamTotals,
    TaskScore,
    Usage,
)
from engine.protocol.completions import (
    CompletionLogprobs,
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    TokenPair,
)
from engine.protocol.error_answer import ErrorAnswer
from engine.protocol.limits import Limits, TooLargeError
from engine.protocol.weights_state import LoadWeightsRequest, Readiness, WeightsState
from engine.questions.backend import Scored
from engine.questions.pair_plan import Pair, check_length
from engine.questions.scorer import TaskScorer
from engine.server.http.answers import RETRY_AFTER_SECONDS, error_body, error_response
from engine.server.http.observe import request_id
from engine.server.keep_running.metrics import count_usage
from engine.server.keep_running.pulse import Pulse
from engine.server.reload.gate import GateTimeoutError
from engine.server.reload.live_weights import LiveWeights
from engine.server.vllm.vllm_backend import VllmBackend

logger = logging.getLogger("vllm.jostle")
router = APIRouter(tags=["jostle"])

_FAILURES = (InputError, EngineError, EngineDeadError, EngineGenerateError, GateTimeoutError)

_SAID = {
    400: "Something is wrong with the request; nothing was scored.",
    401: "The API key is missing or wrong.",
    403: "The admin key is missing or wrong.",
    413: "The request exceeds a limit of the server; the message names it.",
    500: "The engine failed at it.",
    503: "Not now: weights are being loaded, too much is going on, or the engine is being "
    "started again. Retry-After says when to try again.",
}


def _answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What else a route may answer, for the OpenAPI description."""
    return {code: {"model": ErrorAnswer, "description": _SAID[code]} for code in codes}


_NDJSON: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The scores; with `stream`, a line per finished task and one of totals. "
        "A stream that fails ends with an error line instead.",
        "content": {
            "application/x-ndjson": {
                "schema": {
                    "anyOf": [
                        {"$ref": f"#/components/schemas/{kind.__name__}"}
                        for kind in (TaskScore, SkippedTask, StreamTotals, ErrorAnswer)
                    ]
                }
            }
        },
    }
}


def _failure(error: Exception) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status and body of an expected failure."""
    message = str(error) or type(error).__name__
    if isinstance(error, TooLargeError):
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    elif isinstance(error, InputError):
        status = HTTPStatus.BAD_REQUEST
    elif isinstance(error, EngineError):
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    else:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        if isinstance(error, EngineDeadError):
            message = "the engine died and is being started again"
    param, record = getattr(error, "field", None), getattr(error, "record", None)
    return status, error_body(status, message, param=param, record=record)


def _failure_response(error: Exception) -> JSONResponse:
    status, body = _failure(error)
    logger.warning("%s failed with %d: %s", request_id.get(), status, body["error"]["message"])
    again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    unavailable = status == HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(body, status_code=status, headers=again if unavailable else None)


def _cancelled_with_its_client(
    route: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """VLLM's own way to end the work of a client that went away, for routes with a typed answer."""
    cancellable = with_cancellation(route)  # type: ignore[no-untyped-call]

    @functools.wraps(route)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        answer = await cancellable(*args, **kwargs)
        return Response(status_code=499) if answer is None else answer

    return wrapper


def _live(request: Request) -> LiveWeights:
    live: LiveWeights = request.app.state.jostle_weights
    return live


def _limits(request: Request) -> Limits:
    limits: Limits = request.app.state.jostle_limits
    return limits


@router.post(
    "/v1/prompt_uncertainty",
    response_model=PromptUncertaintyResponse,
    responses={**_NDJSON, **_answers(400, 401, 413, 500, 503)},
)
@_cancelled_with_its_client
async def prompt_uncertainty(body: PromptUncertaintyRequest, raw_request: Request) -> Any:
    """Prompt uncertainty and prediction probability of each task, with all scored pairs.

    Where `config.measure` asks a question on top, what it brought is in `answers`.
    """
    live = _live(raw_request)
    version = live.state.version
    try:
        limits = _limits(raw_request)
        limits.check_tasks(body.tasks)
        templates = raw_request.app.state.args.trust_request_chat_template
        if body.config.prompt.template is not None and not templates:
            raise InputError(
                "this server takes no templates with requests; start it with "
                "-- --trust-request-chat-template",
                field="config.prompt.template",
            )
        scorer = TaskScorer(
            live.backend(), body.config, version, skip_faulty=body.on_fault == "skip"
        )
        await scorer.check(body.tasks, functools.partial(limits.check, "tokens", field="tasks"))
        if body.stream:
            return StreamingResponse(
                _score_lines(scorer, body, version), media_type="application/x-ndjson"
            )
        scores, skipped = [], []
        async for score in scorer.score(body.tasks):
            if isinstance(score, SkippedTask):
                skipped.append(score)
            else:
                count_usage(score.usage)
                scores.append(score)
    except _FAILURES as error:
        return _failure_response(error)
    usage = sum((score.usage for score in scores), Usage())
    return _json(
        PromptUncertaintyResponse(
            weights_version=version, scores=tuple(scores), usage=usage, skipped=tuple(skipped)
        )
    )


async def _score_lines(
    scorer: TaskScorer, body: PromptUncertaintyRequest, version: str
) -> AsyncIterator[str]:
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
    except _FAILURES as error:
        status, record = _failure(error)
        logger.warning(
            "%s broke off after %d tasks with %d: %s",
            request_id.get(),
            tasks,
            status,
            record["error"]["message"],
        )
        yield json.dumps(record) + "\n"
        return
    totals = StreamTotals(tasks=tasks, skipped=skipped, weights_version=version, usage=usage)
    yield totals.model_dump_json() + "\n"


@router.post(
    "/v1/completion_logprobs",
    response_model=CompletionLogprobsResponse,
    responses=_answers(400, 401, 413, 500, 503),
)
@_cancelled_with_its_client
async def completion_logprobs(body: CompletionLogprobsRequest, raw_request: Request) -> Any:
    """Log-probabilities of fixed completions after fixed prompts, exact to the token id."""
    live = _live(raw_request)
    version = live.state.version
    backend = live.backend()
    slots = asyncio.Semaphore(backend.max_in_flight)
    vocabulary = live.vocabulary_size

    async def score(index: int) -> Scored:
        pair = body.pairs[index]
        async with slots:
            return await backend.score(
                pair.prompt_token_ids, pair.completion_token_ids, f"pairs[{index}]", groups[index]
            )

    groups = _groups(body.pairs, backend)
    try:
        limits = _limits(raw_request)
        limits.check("pairs", len(body.pairs), field="pairs")
        lengths = (len(p.prompt_token_ids) + len(p.completion_token_ids) for p in body.pairs)
        limits.check("tokens", sum(lengths), field="pairs")
        for index, pair in enumerate(body.pairs):
            named = Pair("pairs", str(index), 0, pair.prompt_token_ids, pair.completion_token_ids)
            check_length(named, backend.max_model_len)
            if max(*pair.prompt_token_ids, *pair.completion_token_ids) >= vocabulary:
                raise InputError(
                    f"a token id is not below the vocabulary size {vocabulary}",
                    record=f"pairs[{index}]",
                    field="pairs",
                )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(score(index)) for index in range(len(body.pairs))]
    except ExceptionGroup as errors:
        for error in errors.exceptions:
            if isinstance(error, _FAILURES):
                return _failure_response(error)
        raise
    except _FAILURES as error:
        return _failure_response(error)
    results = [task.result() for task in running]
    usage = Usage(
        pairs=len(results),
        tokens_submitted=sum(result.n_submitted for result in results),
        tokens_reused=sum(result.n_reused for result in results),
        pairs_rescored=sum(result.rescored for result in results),
    )
    count_usage(usage)
    return _json(
        CompletionLogprobsResponse(
            weights_version=version,
            results=tuple(
                CompletionLogprobs(
                    token_logprobs=result.token_logprobs, logprob=sum(result.token_logprobs)
                )
                for result in results
            ),
            usage=usage,
        )
    )


def _groups(pairs: Sequence[TokenPair], backend: VllmBackend) -> list[int]:
    """A group for each pair: that of the pair before if they share half of the longer prompt."""
    groups: list[int] = []
    before: tuple[int, ...] = ()
    for pair in pairs:
        prompt = pair.prompt_token_ids
        half = (max(len(prompt), len(before)) + 1) // 2
        same = bool(groups) and prompt[:half] == before[:half]
        groups.append(groups[-1] if same else backend.new_group())
        before = prompt
    return groups


@router.get("/v1/weights", response_model=WeightsState, responses=_answers(401))
async def live_weights(raw_request: Request) -> WeightsState:
    """Which weights are live."""
    return _live(raw_request).state


@router.post(
    "/v1/weights",
    response_model=WeightsState,
    responses=_answers(400, 401, 403, 500, 503),
)
async def load_weights(body: LoadWeightsRequest, raw_request: Request) -> Any:
    """Makes a published checkpoint or adapter live. Answers when verified, or why it is not."""
    try:
        return await _live(raw_request).load(Path(body.path), body.version, body.kind)
    except _FAILURES as error:
        return _failure_response(error)


@router.get("/ready", response_model=Readiness, responses=_answers(503))
async def ready(raw_request: Request) -> Response:
    """200 when the engine can score and no load of weights is half done, else 503 with why."""
    live, pulse = _live(raw_request), raw_request.app.state.jostle_pulse
    assert isinstance(pulse, Pulse)
    reason = None
    if not live.usable:
        reason = "a load of weights failed half way"
    elif live.loading:
        reason = "weights are being loaded"
    elif not pulse.beating:
        reason = "the engine does not answer"
    if reason is None:
        answer = _json(Readiness(ready=True, weights_version=live.state.version))
    else:
        answer = error_response(503, f"not ready: {reason}")
    if name := os.environ.get(SERVER_VARIABLE):
        answer.headers[SERVER_HEADER] = name
    return answer


def _json(model: BaseModel) -> JSONResponse:
    """Dumps once; FastAPI would validate and dump the large answer again."""
    return JSONResponse(model.model_dump())
