"""Limits say which one was exceeded, by what, and how to change it."""

from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.protocol.limits import LIMITS_VARIABLE, Limits, TooLargeError, parse_limits, read_limits
from engine.tasks import Instance, Task


def test_where_limits_come_from() -> None:
    assert read_limits({}) == Limits()
    assert read_limits({LIMITS_VARIABLE: '{"tasks": 3}'}) == Limits(tasks=3)
    assert parse_limits(["tasks=3", "wait-seconds=0.5"]) == Limits(tasks=3, wait_seconds=0.5)


def test_what_a_command_line_leaves_open_is_as_the_environment_says() -> None:
    told = read_limits({LIMITS_VARIABLE: '{"tasks": 3, "wait_seconds": 5}'})
    assert parse_limits([], told) == told
    assert parse_limits(["tasks=4", "pairs=9"], told) == Limits(tasks=4, pairs=9, wait_seconds=5)
    with pytest.raises(InputError, match="less than wait_seconds"):
        parse_limits(["drain_seconds=6"], told)


def test_a_load_gives_up_before_the_requests_that_wait_for_it() -> None:
    assert Limits().drain == 30 < Limits().wait_seconds
    assert parse_limits(["wait_seconds=0.5", "drain_seconds=0.4"]).drain == 0.4
    for given in (["drain_seconds=60"], ["wait_seconds=5", "drain_seconds=600"]):
        with pytest.raises(InputError, match=r"less than wait_seconds \(\d+\.0\)"):
            parse_limits(given)


@pytest.mark.parametrize("given", ["tasks", "tasks=", "tasks=0", "tasks=x", "cats=3", "=3"])
def test_limits_that_make_no_sense(given: str) -> None:
    with pytest.raises(InputError, match="--limit"):
        parse_limits([given])


@pytest.mark.parametrize("given", ["3", "{", '{"tasks": -1}', '{"cats": 1}'])
def test_an_environment_that_makes_no_sense(given: str) -> None:
    with pytest.raises(InputError, match=LIMITS_VARIABLE):
        read_limits({LIMITS_VARIABLE: given})


def test_what_exceeds_a_limit_is_told() -> None:
    few = Instance(id="i", input="x")
    task = Task(id="t", definition="d", instances=(few, few.model_copy(update={"id": "j"})))
    Limits(tasks=1, instances=2).check_tasks([task])
    with pytest.raises(TooLargeError) as caught:
        Limits(instances=1).check_tasks([task])
    assert (caught.value.record, caught.value.field) == ("t", "instances")
    assert "2 instances, the server's limit is 1 (--limit instances=N)" in str(caught.value)
    with pytest.raises(TooLargeError, match="2 tasks"):
        Limits(tasks=1).check_tasks([task, task])
