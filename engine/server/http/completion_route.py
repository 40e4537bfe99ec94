"""`POST /v1/completion_logprobs`: how likely fixed completions are after fixed prompts."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from engine.pairs.pair_scorer import PairScorer
from engine.protocol.api import Usage
from engine.protocol.completions import (
    CompletionLogprobs,
    CompletionLogprobsRequest,
    CompletionLogprobsResponse,
    PairTotals,
    SkippedPair,
)
from engine.server.http.answers import json_response, kept_alive, limits_of, live_of
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
from engine.server.keep_running.metrics import count_usage

router = APIRouter(tags=["jostle"], route_class=CheckedRoute)


@router.post(
    "/v1/completion_logprobs",
    response_model=CompletionLogprobsResponse,
    responses={
        **lines(
            "The results; with `stream`, a line per pair as it is finished",
            CompletionLogprobs,
            SkippedPair,
            PairTotals,
        ),
        **answers(400, 401, 408, 413, 500, 503),
    },
)
@cancelled_with_its_client
async def completion_logprobs(
    body: Annotated[CompletionLogprobsRequest, FewFaults], raw_request: Request
) -> Any:
    """Log-probabilities of fixed completions after fixed prompts, exact to the token id.

    A pair is token ids, two texts, or a conversation and its answer; `encoding` in the answer says
    how texts became token ids.
    """
    live, limits = live_of(raw_request), limits_of(raw_request)
    version = live.state.version
    scorer = PairScorer(live.backend(body.cache_salt), body, version, live.vocabulary_size)
    results: list[CompletionLogprobs] = []
    skipped: list[SkippedPair] = []
    usage = Usage()
    try:
        limits.check("pairs", len(body.pairs), field="pairs")
        await scorer.check(functools.partial(limits.check, "tokens", field="pairs"))
        if body.stream:
            return StreamingResponse(
                kept_alive(_lines(scorer, body, version)), media_type="application/x-ndjson"
            )
        async with aclosing(scorer.score()) as outcomes:
            async for outcome, cost in outcomes:
                usage += cost
                if isinstance(outcome, SkippedPair):
                    skipped.append(outcome)
                else:
                    results.append(outcome)
    except FAILURES as error:
        return failure_response(error)
    finally:
        count_usage(usage)
    return json_response(
        CompletionLogprobsResponse.model_construct(
            weights_version=version,
            encoding=body.encoding,
            results=tuple(sorted(results, key=lambda one: one.index)),
            usage=usage,
            skipped=tuple(sorted(skipped, key=lambda one: one.index)),
        ),
        exclude_none=True,
    )


async def _lines(
    scorer: PairScorer, body: CompletionLogprobsRequest, version: str
) -> AsyncGenerator[str, None]:
    """One line per finished pair, then the totals; an error is the last line instead."""
    usage, skipped = Usage(), 0
    try:
        async with aclosing(scorer.score()) as outcomes:
            async for outcome, cost in outcomes:
                usage += cost
                skipped += isinstance(outcome, SkippedPair)
                yield outcome.model_dump_json(exclude_none=True) + "\n"
    except FAILURES as error:
        yield failure_line(error, f"{usage.pairs} pairs")
        return
    finally:
        count_usage(usage)
    totals = PairTotals(
        pairs=usage.pairs,
        skipped=skipped,
        weights_version=version,
        encoding=body.encoding,
        usage=usage,
    )
    yield totals.model_dump_json() + "\n"
