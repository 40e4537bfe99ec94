"""Parts are asked several at once, answered in order, and not waited for when it is over."""

from __future__ import annotations

import threading

import pytest

from engine.harness.asking_threads import THREAD_NAME, answers_in_order


def test_answers_come_in_order_and_several_are_asked_at_once() -> None:
    together = threading.Barrier(3)

    def ask(part: int) -> int:
        together.wait(5)
        return part * 2

    assert list(answers_in_order(ask, range(6), 3)) == [0, 2, 4, 6, 8, 10]
    assert list(answers_in_order(ask, [], 3)) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_under_way_is_not_waited_for(error: type[BaseException]) -> None:
    release = threading.Event()
    asked: list[int] = []

    def ask(part: int) -> int:
        asked.append(part)
        if part == 0:
            raise error
        assert release.wait(5)
        return part

    with pytest.raises(error):
        list(answers_in_order(ask, range(9), 3))
    assert not release.is_set()
    threads = [each for each in threading.enumerate() if each.name == THREAD_NAME]
    assert threads, "some are under way"
    assert all(each.daemon for each in threads), "nor are they waited for by Python"
    release.set()
    for each in threads:
        each.join(5)
    assert max(asked) <= 3, "what had not begun is not asked"
