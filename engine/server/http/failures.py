"""How a route of ours fails: one line in vLLM's own shape, whatever went wrong."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from engine.errors import EngineError, InputError
from engine.protocol.completions import FORMS
from engine.protocol.error_answer import ErrorAnswer
from engine.protocol.limits import TooLargeError
from engine.server.http.answers import error_body, error_response
from engine.server.http.observe import request_id
from engine.server.reload.gate import GateTimeoutError

logger = logging.getLogger("vllm.jostle")

FAILURES = (InputError, EngineError, EngineDeadError, EngineGenerateError, GateTimeoutError)
"""What a route expects to go wrong."""

_SAID: dict[int | str, str] = {
    400: "Something is wrong with the request; nothing was scored.",
    401: "The API key is missing or wrong.",
    403: "The admin key is missing or wrong.",
    408: "The body of the request stopped coming.",
    413: "The request exceeds a limit of the server; the message names it.",
    500: "The engine failed at it.",
    503: "Not now: weights are being loaded, too much is going on, or the engine is being "
    "started again. Retry-After says when to try again.",
    "4XX": "Something else is wrong with the request.",
}


def answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What else a route may answer, for the OpenAPI description.

    `4XX` keeps FastAPI from adding the 422 of its own, in whose place there is a 400.
    """
    told: tuple[int | str, ...] = (*codes, "4XX")
    return {code: {"model": ErrorAnswer, "description": _SAID[code]} for code in told}


def lines(what: str, *kinds: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answer of a route that streams, for the OpenAPI description.

    Args:
        what: What the lines are, as a phrase.
        kinds: The records of a line; the last is that of totals, which no other answer holds.
    """
    *records, totals = kinds
    place = "#/components/schemas/{model}"
    names = [*(each.__name__ for each in records), ErrorAnswer.__name__]
    schemas: list[dict[str, Any]] = [{"$ref": place.format(model=name)} for name in names]
    schemas.append(totals.model_json_schema(ref_template=place))
    schemas[-1].pop("$defs")
    return {
        200: {
            "description": f"{what} and one of totals. A stream that fails ends with an error "
            "line instead.",
            "content": {"application/x-ndjson": {"schema": {"anyOf": schemas}}},
        }
    }


def _failure(error: Exception) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status of an expected failure, and what `error_body` is told of it."""
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
    return status, {"message": message, "param": param, "record": record}


def failure_response(error: Exception) -> JSONResponse:
    """The answer of an expected failure."""
    status, told = _failure(error)
    logger.warning("%s failed with %d: %s", request_id.get(), status, told["message"])
    return error_response(status, **told)


def failure_line(error: Exception, done: str) -> str:
    """The last line of a stream that fails.

    Args:
        done: How much of it came before, for the log.
    """
    status, told = _failure(error)
    logger.warning(
        "%s broke off after %s with %d: %s", request_id.get(), done, status, told["message"]
    )
    return json.dumps(error_body(status, **told)) + "\n"


def cancelled_with_its_client(
    route: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """VLLM's own way to end the work of a client that went away, for routes with a typed answer."""
    cancellable = with_cancellation(route)  # type: ignore[no-untyped-call]

    @functools.wraps(route)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        answer = await cancellable(*args, **kwargs)
        return Response(status_code=499) if answer is None else answer

    return wrapper


_FAULTS = 1_000  # spelled out in some milliseconds


def _few_faults(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validates a body, and tells as one what are too many faults to tell apart.

    FastAPI spells out all that pydantic has found before the first one can be picked: millions, of
    unknown fields for example, hold up the event loop for minutes.
    """
    try:
        return validate(value)
    except ValidationError as error:
        if error.error_count() <= _FAULTS:
            raise
        raise PydanticCustomError(
            "faults",
            "the body holds {count} unknown fields, or values of another kind",
            {"count": f"{error.error_count():,}"},
        ) from None


FewFaults = WrapValidator(_few_faults)
"""Annotates the body of a route."""


class CheckedRoute(APIRoute):
    """A route whose faulty bodies are answered in one line.

    vLLM's answer, and FastAPI's, is all that pydantic found, with what was sent.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The handler of the route."""
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                return failure_response(body_fault(error.errors()))

        return checked


def body_fault(found: Sequence[Mapping[str, Any]]) -> InputError:
    """The first thing that is wrong with a body, naming record and field."""
    first = found[0]
    # The first part is `body`. A list of records comes next, if the fault is inside of one.
    _, *place = first["loc"]
    problem, record = str(first["msg"]).removeprefix("Value error, "), None
    inner = first.get("ctx", {}).get("error")
    if first["type"] == "json_invalid":
        return InputError(f"the body is no JSON: {inner}, at character {place[0]}")
    if isinstance(inner, InputError):
        problem = inner.problem
        place += [inner.field] if inner.field else []
    if len(place) > 1 and isinstance(place[1], int):
        record, place = f"{place[0]}[{place[1]}]", place[2:] or [place[0]]
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for part in place
        if not (record and part in FORMS)
    )
    problem = _WORDS.get(first["type"], problem)
    return InputError(problem, record=record, field=field.removeprefix(".") or None)


_WORDS = {"missing": "is missing", "extra_forbidden": "is no field of this record"}
