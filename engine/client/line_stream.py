"""A streamed answer: lines of JSON, of which the last one says that it is complete."""

from __future__ import annotations

import json
from typing import Protocol, TypeVar

from engine.client.wire import failure, not_understood
from engine.errors import UnavailableError
from engine.tasks import Record

_A_co = TypeVar("_A_co", covariant=True)
_Answer = TypeVar("_Answer", bound=Record)
_Skipped = TypeVar("_Skipped", bound=Record)
_Totals = TypeVar("_Totals", bound=Record)


class Streamed(Protocol[_A_co]):
    """What one streamed request asks for; it can be asked again for what is missing.

    Attributes:
        path: The route.
        complete: Whether nothing is missing any more.
    """

    @property
    def path(self) -> str: ...

    @property
    def complete(self) -> bool: ...

    def request(self) -> str:
        """The body that asks for what is missing."""
        ...

    def take(self, line: bytes) -> _A_co | None:
        """The answer that a line holds; None for the totals, which must be right."""
        ...

    def broken_off(self) -> UnavailableError:
        """The error of a stream without totals."""
        ...


class LineBuffer:
    """Cuts a stream of bytes into lines.

    Those of httpx end at U+2028 and its like as well, which JSON leaves as they are inside texts.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that a chunk completes."""
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        line = b"".join(self._rest)
        self._rest = [others[-1]]
        return [line, *others[:-1]]


def parsed_line(
    line: bytes,
    path: str,
    answer: type[_Answer],
    skipped: type[_Skipped],
    totals: type[_Totals],
) -> _Answer | _Skipped | _Totals:
    """What a line of a streamed answer says; the error, if it is one."""
    try:
        record = json.loads(line)
        if "error" not in record:
            if "done" in record:
                return totals.model_validate(record)
            if "reason" in record:
                return skipped.model_validate(record)
            return answer.model_validate(record)
        status = int(record["error"]["code"])
    except (LookupError, TypeError, ValueError) as error:
        raise not_understood(path) from error
    raise failure(status, line)
