"""The client of any server with OpenAI's `/chat/completions`."""

from __future__ import annotations

import itertools
import json
import threading
import time
from functools import cached_property
from typing import Any, NamedTuple, Self

import httpx

from engine.client.wire import OPENAI_SAMPLING, SAMPLING, authorities, headers, server_address
from engine.errors import EngineError, InputError

TRIES = 5
"""How often a request is sent, at least, to a server that is busy or cannot be reached."""

_AWAY = frozenset({429, 502, 503, 504})
_BUSY = _AWAY | {408, 409, 500}
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class ChatAnswer(NamedTuple):
    """What a model said, and whether it came to its end rather than to the limit of tokens."""

    text: str
    whole: bool


class ChatClient:
    """Asks one question at a time; a context manager, safe for threads.

    Args:
        url: Base address, up to and with `/v1`.
        api_key: Sent as bearer token, if given.
        timeout_s: Longest silence of the server in the middle of an answer, in seconds.
        model: The model's name there; the first that the server lists when none.
        proxies: Whether the proxies that the environment names are used.
        patience_s: Seconds to go on trying, beyond `TRIES`, where the server may come back.
        transport: Carries the requests in place of the network.

    Raises:
        InputError: If `url` is no address.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        model: str | None = None,
        *,
        proxies: bool = True,
        patience_s: float = 0.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        verify = authorities(server_address(url))
        self._url = url.rstrip("/")
        self._named = model
        self._patience_s = patience_s
        self._hurried = threading.Event()
        self._http = httpx.Client(
            headers=headers(api_key, None),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            trust_env=proxies,
            verify=verify,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def hurry(self) -> None:
        """Has all threads try no more than `TRIES`: nobody waits for their answers."""
        self._hurried.set()

    @cached_property
    def model(self) -> str:
        """The model's name.

        Raises:
            EngineError: If the server cannot be reached, fails or lists none.
        """
        if self._named is not None:
            return self._named
        try:
            return str(self._models["data"][0]["id"])
        except (LookupError, TypeError) as error:
            raise EngineError(f"{self._url}/models: the answer names no model") from error

    @cached_property
    def _models(self) -> Any:
        return self._call("GET", "/models")

    @cached_property
    def _sampling(self) -> dict[str, float]:
        """What a request says beside temperature and seed, so that no default decides."""
        try:
            vllm = any(model["owned_by"] == "vllm" for model in self._models["data"])
        except (EngineError, InputError, LookupError, TypeError):  # not every server lists them
            vllm = False
        return SAMPLING if vllm else OPENAI_SAMPLING  # others may refuse what they do not know

    def ask(
        self, question: str, temperature: float, max_tokens: int, seed: int | None = None
    ) -> ChatAnswer:
        """What the model says to a question.

        Raises:
            InputError: If the server finds fault with the request.
            EngineError: If the server cannot be reached or fails, however often it is tried, or its
                answer is not understood.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": temperature,
            "max_tokens": max_tokens,
            **({} if seed is None else {"seed": seed}),
            **self._sampling,
        }
        answer = self._call("POST", "/chat/completions", body)
        try:
            (choice,) = answer["choices"]
            # Some servers have null in the place of an empty answer.
            text = str(choice["message"]["content"] or "")
            return ChatAnswer(text, choice.get("finish_reason", "stop") == "stop")
        except (LookupError, TypeError, ValueError) as error:
            path = f"{self._url}/chat/completions"
            raise EngineError(f"{path}: the server's answer is not understood") from error

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url = self._url + path
        until = time.monotonic() + self._patience_s
        for tries in itertools.count(1):
            try:
                response = self._http.request(method, url, json=body)
            except httpx.HTTPError as error:
                pause = _pause(tries)
                if self._ends(tries, until - pause):
                    reason = str(error) or type(error).__name__
                    raise EngineError(f"{method} {url}: {reason}") from error
            else:
                pause = _pause(tries, response)
                patient = until - pause if response.status_code in _AWAY else 0.0
                if response.status_code not in _BUSY or self._ends(tries, patient):
                    break
            time.sleep(pause)
        if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise InputError(f"{url} finds fault: {_message(response)}")
        if not response.is_success:
            raise EngineError(f"{url} answered {response.status_code}: {_message(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise EngineError(f"{url}: the server's answer is not understood") from error

    def _ends(self, tries: int, until: float) -> bool:
        """Whether so many tries are enough, after that time where the server may come back."""
        return tries >= TRIES and (self._hurried.is_set() or time.monotonic() > until)


def _pause(tries: int, response: httpx.Response | None = None) -> float:
    """Seconds to wait before the next try: what the server asks for, else twice as long each of
    the first `TRIES`.
    """
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    pause = _FIRST_PAUSE_S * 2 ** (min(tries, TRIES - 1) - 1)
    return min(float(asked) if asked.isdecimal() else pause, _LONGEST_PAUSE_S)


def _message(response: httpx.Response) -> str:
    try:
        return str(json.loads(response.content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return response.text[:500]
