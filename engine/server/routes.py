"""The HTTP routes. Errors take vLLM's own shape: {"error": {message, type, param, code}}."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.api import (
    CompletionLogprobs,
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    LoadWeightsRequest,
    PromptUncertaintyRequest,
    PromptUncertaintyResponse,
    StreamTotals,
    TokenPair,
    Usage,
    WeightsState,
)
from engine.errors import EngineError, InputError
from engine.gate import GateTimeoutError
from engine.plan import Pair, check_length
from engine.scoring import Scored, TaskScorer
from engine.server.backend import VllmBackend
from engine.server.weights import LiveWeights

logger = logging.getLogger("vllm.jostle")
router = APIRouter()

_FAILURES = (InputError, EngineError, EngineDeadError, EngineGenerateError, GateTimeoutError)


def _failure(error: Exception) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status and body of an expected failure."""
    if isinstance(error, InputError):
        status, kind = HTTPStatus.BAD_REQUEST, "BadRequestError"
    elif isinstance(error, EngineError):
        status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "EngineError"
    else:
        status, kind = HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableError"
    param = getattr(error, "field", None)
    message = str(error) or type(error).__name__
    return status, {"error": {"message": message, "type": kind, "param": param, "code": status}}


def _failure_response(error: Exception) -> JSONResponse:
    status, body = _failure(error)
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body, status_code=status, headers=headers)


def _live(request: Request) -> LiveWeights:
    live: LiveWeights = request.app.state.jostle_weights
    return live


@router.post("/v1/prompt_uncertainty", response_model=PromptUncertaintyResponse)
@with_cancellation  # type: ignore[untyped-decorator]
async def prompt_uncertainty(body: PromptUncertaintyRequest, raw_request: Request) -> Any:
    """Prompt uncertainty and prediction probability of each task, with all scored pairs."""
    live = _live(raw_request)
    version = live.state.version
    try:
        scorer = TaskScorer(live.backend(), body.config, version)
        await asyncio.to_thread(scorer.check, body.tasks)
        if body.stream:
            return StreamingResponse(
                _score_lines(scorer, body, version), media_type="application/x-ndjson"
            )
        scores = [score async for score in scorer.score(body.tasks)]
    except _FAILURES as error:
        return _failure_response(error)
    usage = sum((score.usage for score in scores), Usage())
    return _json(
        PromptUncertaintyResponse(weights_version=version, scores=tuple(scores), usage=usage)
    )


async def _score_lines(
    scorer: TaskScorer, body: PromptUncertaintyRequest, version: str
) -> AsyncIterator[str]:
    """One line per finished task, then the totals; an error is the last line instead."""
    usage, tasks = Usage(), 0
    try:
        async for score in scorer.score(body.tasks):
            usage, tasks = usage + score.usage, tasks + 1
            yield score.model_dump_json() + "\n"
    except _FAILURES as error:
        yield json.dumps(_failure(error)[1]) + "\n"
        return
    yield StreamTotals(tasks=tasks, weights_version=version, usage=usage).model_dump_json() + "\n"


@router.post("/v1/completion_logprobs", response_model=CompletionLogprobsResponse)
@with_cancellation  # type: ignore[untyped-decorator]
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


@router.get("/v1/weights", response_model=WeightsState)
async def live_weights(raw_request: Request) -> WeightsState:
    """Which weights are live."""
    return _live(raw_request).state


@router.post("/v1/weights", response_model=WeightsState)
async def load_weights(body: LoadWeightsRequest, raw_request: Request) -> Any:
    """Makes a published checkpoint live. Answers when it is verified, or why it is not."""
    try:
        return await _live(raw_request).load(Path(body.path), body.version)
    except _FAILURES as error:
        logger.warning("weights %s were not loaded: %s", body.version, error)
        return _failure_response(error)


def _json(model: BaseModel) -> JSONResponse:
    """Dumps once; FastAPI would validate and dump the large answer again."""
    return JSONResponse(model.model_dump())
