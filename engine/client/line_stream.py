"""A streamed answer: lines of JSON, of which the last one says that it is complete."""

from __future__ import annotations

from typing import Protocol, TypeVar

from engine.client.wire import UnavailableError

_A_co = TypeVar("_A_co", covariant=True)


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
