"""An estimate made on some tasks of a pool comes true, on an engine simulated in virtual time.

The scorer, its plans and its order are the real ones; the engine computes one prompt after the
other, token by token, without what its cache holds, and decodes all that it generates side by side.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from engine.bench.bench_calls import Call, text_length
from engine.bench.figures import Figures
from engine.bench.load_client import TimedCall, now
from engine.bench.load_phase import run_phases
from engine.bench.pool_times import PoolTimes
from engine.bench.repeats import repeated
from engine.bench.workload import Load, Timing
from engine.pools.bundled import training_pool
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Generated, Scored
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from tests.engine.bench.virtual_time import run_virtual
from tests.engine.questions.fake_backend import FakeBackend

BLOCK = 16
PREFILL_S, DECODE_S = 1e-3, 0.03
"""Of a token each; the second one is the same however many are decoded at once."""


class Device:
    """What computes, for all requests."""

    def __init__(self) -> None:
        self._busy = asyncio.Lock()
        self._cached: set[int] = set()

    async def prefill(self, salt: str, tokens: tuple[int, ...]) -> None:
        ends = range(BLOCK, len(tokens) + 1, BLOCK)
        keys = [hash((salt, tokens[:end])) for end in ends]
        async with self._busy:
            found = sum(1 for _ in itertools.takewhile(self._cached.__contains__, keys))
            self._cached |= set(keys)
            await asyncio.sleep(PREFILL_S * (len(tokens) - BLOCK * found))


class Simulated(FakeBackend):
    """A backend on a device, with a salt of its own."""

    def on(self, device: Device, salt: str) -> Simulated:
        self.device, self.salt = device, salt
        self.max_in_flight = 128
        self.max_model_len = 1 << 20
        return self

    async def generate(self, prompt: tuple[int, ...], *more: Any) -> Generated:
        generated = await super().generate(prompt, *more)
        await self.device.prefill(self.salt, prompt)
        await asyncio.sleep(DECODE_S * len(generated.token_ids) * 4)
        return generated

    async def score(
        self, prompt: tuple[int, ...], output: tuple[int, ...], *more: Any, **again: Any
    ) -> Scored:
        await self.device.prefill(self.salt, prompt + output)
        return await super().score(prompt, output, *more, **again)


async def scored(
    device: Device, salt: str, tasks: list[Task], config: ScoreConfig
) -> list[TaskScore]:
    scorer = TaskScorer(Simulated().on(device, salt), config, "v")
    await scorer.check(tasks)
    return [each async for each in scorer.score(tasks) if isinstance(each, TaskScore)]


async def whole_pool(tasks: list[Task], config: ScoreConfig) -> float:
    """Seconds of a scoring, as `jostle score` asks for it: 64 tasks a request."""
    device, started = Device(), now()
    for first in range(0, len(tasks), 64):
        await scored(device, "score", tasks[first : first + 64], config)
    return now() - started


async def measured(tasks: list[Task], config: ScoreConfig, at_once: int) -> PoolTimes:
    """The estimate, as `jostle bench uncertainty --estimate` makes it."""
    order = random.Random(1).sample(tasks, len(tasks))
    device = Device()

    def calls(salt: str, start: int) -> Iterator[Call]:
        for place in itertools.count(start):
            passed, at = divmod(place, len(order))
            length = text_length(order[at], config)
            yield Call("uncertainty", 1, order[at], f"{salt}/{passed}", length)

    async def send(call: Call, due: float) -> TimedCall:
        (score,) = await scored(device, call.salt, [call.content], config)
        return TimedCall(call.kind, due, now(), now(), score.usage, length=call.length)

    phases = await run_phases(
        calls("r", 0), send, Load(concurrency=at_once), Timing(seconds=10), n_windows=3
    )
    rate = repeated([Figures.of(phase.calls, phase).length for phase in phases])
    length = sum(text_length(task, config) for task in tasks)
    return PoolTimes.of("pool", len(tasks), 0, length, rate, tokens=1.0)


def of_the_design(task: Task, config: ScoreConfig) -> Task:
    instances = task.sample_instances(config.n_instances, config.seed)
    return task.model_copy(update={"instances": instances})


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "at_once"), [(1, 2, 43), (1, 2, 4), (4, 3, 8), (4, 3, 4)])
def test_a_pool_takes_as_long_as_was_told(n: int, k: int, at_once: int) -> None:
    config = ScoreConfig(n_instances=n, n_perturbations=k, max_output_tokens=8)
    tasks = [of_the_design(task, config) for task in training_pool()][::2]
    real = run_virtual(whole_pool(tasks, config))
    told = run_virtual(measured(tasks, config, at_once))
    assert told.scoring == pytest.approx(real, rel=0.1)
    assert told.race == pytest.approx(told.scoring / 2)


@pytest.mark.slow
@pytest.mark.parametrize("order", range(4))
def test_some_of_the_tasks_tell_of_longer_ones(order: int) -> None:
    """One task of four has an instruction of a page: which of them were measured is chance."""
    config = ScoreConfig(n_instances=2, n_perturbations=2, max_output_tokens=4)
    tasks = [of_the_design(task, config) for task in training_pool()]
    random.Random(order).shuffle(tasks)
    for at in range(0, len(tasks), 4):
        definition = " ".join([tasks[at].definition] * 20)
        tasks[at] = tasks[at].model_copy(update={"definition": definition})
    real = run_virtual(whole_pool(tasks, config))
    told = run_virtual(measured(tasks, config, at_once=4))
    assert told.scoring == pytest.approx(real, rel=0.15)
