"""Threads that ask for the parts of something large, several at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import TypeVar

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")

THREAD_NAME = "asking"


def answers_in_order(
    ask: Callable[[_Part], _Answer], parts: Sequence[_Part], at_once: int
) -> Generator[_Answer, None, None]:
    """What each part is answered, in order.

    Neither an error nor an interruption nor the end of Python waits for what is under way, as all
    do with an executor of the standard library; what has not begun by then is not asked.
    """
    waiting: queue.SimpleQueue[tuple[_Part, Future[_Answer]]] = queue.SimpleQueue()
    answers: list[Future[_Answer]] = [Future() for _ in parts]
    for part, answer in zip(parts, answers, strict=True):
        waiting.put((part, answer))

    def work() -> None:
        while True:
            try:
                part, answer = waiting.get_nowait()
            except queue.Empty:
                return
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(ask(part))
                except BaseException as error:  # noqa: BLE001 raised where the answer is taken
                    answer.set_exception(error)

    for _ in range(min(at_once, len(parts))):
        threading.Thread(target=work, name=THREAD_NAME, daemon=True).start()
    try:
        for answer in answers:
            yield answer.result()
    finally:
        for answer in answers:
            answer.cancel()
