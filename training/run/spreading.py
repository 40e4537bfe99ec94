"""Work spread over several engines: what fails at one is tried at another, and whose fault it was.

The thread that reads the answers keeps all state. One thread per part of the work asks an engine
and reports; whatever it raises is raised here, so that nothing waits for a thread that is dead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from engine.errors import EngineError
from engine.protocol.engine_calls import Engine

_Answer = TypeVar("_Answer")

Ask = Callable[[Engine, Sequence[int]], Iterable[tuple[int, _Answer]]]
"""Asks an engine for the answers to some items, given by number; their numbers and answers."""

_STOP_SECONDS = 5.0


class FaultyItemError(EngineError):
    """Two engines failed at one item by itself.

    Attributes:
        index: Its number.
    """

    def __init__(self, index: int, failures: Mapping[str, EngineError]) -> None:
        told = "; ".join(f"{name}: {error}" for name, error in failures.items())
        super().__init__(f"{len(failures)} engines failed at it: {told}")
        self.index = index


class _Answered(NamedTuple, Generic[_Answer]):
    item: int
    answer: _Answer


class _Ended(NamedTuple):
    """A part is through, or `error` ended it; `alive` tells whether the engine still answers."""

    name: str
    part: tuple[int, ...]
    error: BaseException | None
    alive: bool


@dataclass
class Spreading(Generic[_Answer]):
    """One piece of work, spread over engines.

    An engine that does not answer any more after a failure is dropped. The part it failed at is
    halved and tried again, down to single items. An item by itself that one engine fails at and
    another does not costs the former engine its place; at an item that two engines failed at the
    item is at fault, and the engines stay.

    Attributes:
        engines: Those at work, by name; the dropped ones leave.
        ask: What is asked of them.
        drop: Told of every engine that is dropped.
        on_fault: Told of every item that is at fault; None: it is raised.
    """

    engines: dict[str, Engine]
    ask: Ask[_Answer]
    drop: Callable[[str, EngineError], None]
    on_fault: Callable[[FaultyItemError], None] | None = None
    _failures: dict[int, dict[str, EngineError]] = field(default_factory=dict)
    _waiting: deque[tuple[int, ...]] = field(default_factory=deque)
    _left: set[int] = field(default_factory=set)
    _busy: dict[str, threading.Thread] = field(default_factory=dict)
    _events: SimpleQueue[_Answered[_Answer] | _Ended] = field(default_factory=SimpleQueue)
    _stopped: bool = False
    _last_error: EngineError | None = None

    def run(self, n_items: int, at_once: int, at_least: int) -> Iterator[tuple[int, _Answer]]:
        """Yields the answer to each item once, as they come.

        Args:
            at_once: How many make a part at most.
            at_least: How many make a part at least, but for the last one. Where it is less than
                `at_once` parts shrink, so that all engines end at about the same time (guided
                self-scheduling; Polychronopoulos and Kuck, 1987).

        Raises:
            FaultyItemError: If two engines failed at an item.
            EngineError: If no engine is left that could be asked.
        """
        self._left = set(range(n_items))
        start = 0
        while start < n_items:
            fair = max(at_least, -(-(n_items - start) // (2 * len(self.engines))))
            self._waiting.append(tuple(range(n_items)[start : start + min(at_once, fair)]))
            start += len(self._waiting[-1])
        try:
            while self._left:
                self._hand_out()
                event = self._events.get()
                if isinstance(event, _Ended):
                    self._end(event)
                elif event.item in self._left:
                    self._left.remove(event.item)
                    yield event
                    for name, error in self._failures.pop(event.item, {}).items():
                        self._drop(name, error)
        finally:
            self._stopped = True
            deadline = time.monotonic() + _STOP_SECONDS
            for thread in self._busy.values():  # one may hang in a request: nobody waits for it
                thread.join(max(0.0, deadline - time.monotonic()))

    def _hand_out(self) -> None:
        """Give each idle engine a part that it has not failed at.

        Raises:
            EngineError: If nobody works and nobody can.
        """
        for name in [name for name in self.engines if name not in self._busy]:
            part = next((p for p in self._waiting if name not in self._failed_at(p)), None)
            if part is None:
                continue
            self._waiting.remove(part)
            self._busy[name] = threading.Thread(
                target=self._work, args=(name, self.engines[name], part), daemon=True
            )
            self._busy[name].start()
        if not self._busy:
            if not self.engines:
                raise EngineError(f"no engine is left; the last one failed: {self._last_error}")
            raise next(iter(self._failed_at(self._waiting[0]).values()))

    def _failed_at(self, part: tuple[int, ...]) -> Mapping[str, EngineError]:
        """Who failed at the part; none if it has several items, for which of them is not known."""
        return self._failures.get(part[0], {}) if len(part) == 1 else {}

    def _work(self, name: str, engine: Engine, part: tuple[int, ...]) -> None:
        """Runs in a thread of its own."""
        error: BaseException | None = None
        alive = True
        try:
            for index, answer in self.ask(engine, part):
                self._events.put(_Answered(index, answer))
                if self._stopped:
                    return
        except EngineError as failed:
            error, alive = failed, _answers(engine)
        except BaseException as raised:  # noqa: BLE001  raised again by the thread that waits
            error = raised
        self._events.put(_Ended(name, part, error, alive))

    def _end(self, event: _Ended) -> None:
        """Take note of a part's end."""
        del self._busy[event.name]
        left = tuple(index for index in event.part if index in self._left)
        error = event.error
        if error is None and left:
            error = EngineError(f"gave no answer to {len(left)} of {len(event.part)} items")
        if error is None:
            return
        if not isinstance(error, EngineError):
            raise error
        if not event.alive:
            self._drop(event.name, error)
        if len(left) == 1:
            failures = self._failures.setdefault(left[0], {})
            failures[event.name] = error
            if len(failures) == 2:
                self._fault(FaultyItemError(left[0], failures))
                return
        half = (len(left) + 1) // 2
        self._waiting.extendleft(part for part in (left[half:], left[:half]) if part)

    def _fault(self, fault: FaultyItemError) -> None:
        if self.on_fault is None:
            raise fault
        self._left.remove(fault.index)
        self.on_fault(fault)

    def _drop(self, name: str, error: EngineError) -> None:
        if self.engines.pop(name, None) is not None:
            self._last_error = error
            self.drop(name, error)


def _answers(engine: Engine) -> bool:
    try:
        engine.weights()
    except EngineError:
        return False
    return True
