"""Requests, answers and errors of a server, without the connection."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from pydantic import ValidationError

from engine.errors import EngineError, InputError, UnavailableError
from engine.keys import ADMIN_HEADER, sendable
from engine.protocol.limits import TooLargeError
from engine.tasks import Record
from engine.validation import first_fault

if TYPE_CHECKING:
    import ssl

JSON = {"Content-Type": "application/json"}
SCORE_PATH = "/v1/prompt_uncertainty"
COMPLETIONS_PATH = "/v1/completion_logprobs"
PATIENCE_S = 180.0
"""How long to wait for an engine that went away, in seconds: somebody may start it again."""
UNSUPERVISED_PATIENCE_S = 10.0
"""The same of an engine that nobody starts again: it may only be busy."""

KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 8))
        if hasattr(socket, name)
    ),
]
"""By which a server whose machine is gone is noticed, though its answer may take any time."""

_R = TypeVar("_R", bound=Record)
_INPUT_ERRORS = (
    httpx.codes.BAD_REQUEST,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE,
    httpx.codes.UNPROCESSABLE_ENTITY,
)
_NOT_NOW = (
    httpx.codes.REQUEST_TIMEOUT,
    httpx.codes.TOO_MANY_REQUESTS,
    httpx.codes.SERVICE_UNAVAILABLE,
)
_LOST_BY_A_PROXY = (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT)
_NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout)
_CUT = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0


def headers(api_key: str | None, admin_key: str | None) -> dict[str, str]:
    """The headers that carry the keys.

    Raises:
        InputError: If a header cannot carry one.
    """
    api, admin = sendable(api_key, "api_key"), sendable(admin_key, "admin_key")
    return {
        **({"Authorization": f"Bearer {api}"} if api else {}),
        **({ADMIN_HEADER: admin} if admin else {}),
    }


def server_address(url: str, field: str = "url") -> str:
    """The address that routes are put behind: without `/v1` at its end, and without slashes.

    Raises:
        InputError: If it is no address of a server.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise InputError(f"{url!r} is no address: {error}", field=field) from error
    known = parsed.scheme in ("http", "https") and parsed.host and not parsed.query
    if not known or " " in url.strip() or not 0 < (parsed.port or 80) < 1 << 16:
        raise InputError(f"{url!r} is no address of the form http://HOST:PORT", field=field)
    path = parsed.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return str(parsed.copy_with(path=path or "/", fragment=None)).rstrip("/")


def authorities(url: str) -> ssl.SSLContext | bool:
    """Who may vouch for the server at an address, as httpx takes it.

    Of `https` those that the environment names (`SSL_CERT_FILE`, `SSL_CERT_DIR`), which httpx
    itself reads only where it may use the proxies that are named there, too.

    Raises:
        InputError: If there are none in the file.
    """
    if httpx.URL(url).scheme != "https":
        return True
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        problem = f"holds no certificates that can be read: {error.strerror}"
        file = os.environ.get("SSL_CERT_FILE")
        raise InputError(problem, file=file, field="SSL_CERT_FILE") from error


@dataclass
class Patience:
    """Decides how long to wait before the next try, and when to stop trying.

    A server that has never answered is not waited for: its address is wrong, or it is not there.

    Attributes:
        seconds: How long without any progress to go on trying; 0: not at all.
        met: Whether the server has ever answered.
    """

    seconds: float
    met: bool = False
    _since: float | None = None
    _tries: int = 0

    def progress(self) -> None:
        """Something arrived: whatever fails next has all the time again."""
        self.met = True
        self._since, self._tries = None, 0

    def pause(self, error: UnavailableError) -> float:
        """Seconds to wait before the next try; raises the error when there is to be none."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        self.met |= error.there
        pause = min(max(_FIRST_PAUSE * 2.0**self._tries, error.retry_after), _LONGEST_PAUSE)
        self._tries += 1
        if not self.met or now - self._since + pause > self.seconds:
            raise error
        return pause


def decoded(response: httpx.Response, path: str, *, again: bool = True) -> Any:
    """The JSON of an answer that is a success.

    Args:
        again: See `failure`.

    Raises:
        EngineError: If it is none, or no JSON.
        InputError: If the server refused the input.
    """
    if response.status_code != httpx.codes.OK:
        raise failure(response.status_code, response.content, response.headers, again=again)
    try:
        return response.json()
    except ValueError as error:
        raise not_understood(path) from error


def parsed(answer: Any, kind: type[_R], path: str) -> _R:
    """An answer as a record; `EngineError` if it is none."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        problem, field = first_fault(error)
        why = f": field {field!r}: {problem} (is it another version of jostle?)"
        raise not_understood(path, why) from error


def completion_texts(answer: Any, n: int, path: str) -> list[str]:
    """The texts of an OpenAI completion, in the order of its prompts."""
    try:
        texts = {int(choice["index"]): str(choice["text"]) for choice in answer["choices"]}
        return [texts[index] for index in range(n)]
    except (LookupError, TypeError, ValueError) as error:
        raise not_understood(path) from error


OPENAI_SAMPLING: dict[str, float] = {
    "n": 1,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
SAMPLING: dict[str, float] = {
    **OPENAI_SAMPLING,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""Beside the temperature, what vLLM would take from the generation config if it were not said."""


def completion_body(
    model: str, prompts: Sequence[Sequence[int]], options: Mapping[str, Any]
) -> str:
    """An OpenAI completion request for prompts given as token ids."""
    given = [list(prompt) for prompt in prompts]
    return json.dumps({"model": model, "prompt": given, **SAMPLING, **options})


def first_model(answer: Any, path: str) -> str:
    """The name of the model that a server serves."""
    try:
        return str(answer["data"][0]["id"])
    except (LookupError, TypeError) as error:
        raise not_understood(path) from error


def not_understood(path: str, why: str = "") -> EngineError:
    """The error of an answer that is not what the route gives."""
    return EngineError(f"{path}: the server's answer is not understood{why}")


def failure(
    status: int, body: bytes, headers: httpx.Headers | None = None, *, again: bool = True
) -> Exception:
    """The error that an answer of the server stands for.

    Args:
        again: Whether what a proxy lost on the way, and the server may have done, may be asked for
            again.
    """
    record, ours = None, True
    try:
        error = json.loads(body)["error"]
        message, param, record = str(error["message"]), error.get("param"), error.get("record")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, param, ours = body.decode(errors="replace")[:500], None, False
    if status in _INPUT_ERRORS:
        too_large = status == httpx.codes.REQUEST_ENTITY_TOO_LARGE
        wrong = TooLargeError(message) if too_large else InputError(message)
        wrong.field, wrong.record = param, record
        return wrong
    if status == httpx.codes.NOT_FOUND and not ours:
        return EngineError(
            "the server answers, but has none of jostle's routes; start it with jostle serve "
            "MODEL, or VLLM_PLUGINS=jostle vllm serve MODEL --host 127.0.0.1"
        )
    message = f"the engine answered {status}: {message}"
    if status not in _NOT_NOW and not (again and status in _LOST_BY_A_PROXY):
        return EngineError(message)
    after = "" if headers is None else headers.get("Retry-After", "")
    return UnavailableError(
        message,
        retry_after=float(after) if after.isdecimal() else 0.0,
        there=status not in _LOST_BY_A_PROXY,  # it is the proxy's answer
    )


def lost(error: httpx.HTTPError, doing: str, *, again: bool = True) -> EngineError:
    """The error of an answer that did not come, or was cut.

    Args:
        error: What went wrong on the way.
        doing: What it interrupted.
        again: Whether what was cut may be asked for again; what never arrived always may.
    """
    message = f"{doing}: {str(error) or type(error).__name__}"
    there = not isinstance(error, _NEVER_ARRIVED)
    if there and not (again and isinstance(error, _CUT)):
        return EngineError(message)
    return UnavailableError(message, there=there)
