"""Scoring against an engine in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend


def design(n: int = 2, k: int = 3, **more: Any) -> ScoreConfig:
    return ScoreConfig(n_instances=n, n_perturbations=k, max_output_tokens=8, **more)


def make_tasks(n_tasks: int) -> list[Task]:
    return [
        make_task(f"t{index}", definition=f"Say the color {index}", n_instances=1 + index % 4)
        for index in range(n_tasks)
    ]


def stream(
    backend: FakeBackend, tasks: Sequence[Task], config: ScoreConfig
) -> AsyncGenerator[TaskScore, None]:
    scorer = TaskScorer(backend, config, "v1")
    return only_scores(scorer.score(tasks))


async def only_scores(
    stream: AsyncGenerator[TaskScore | SkippedTask, None],
) -> AsyncGenerator[TaskScore, None]:
    async with aclosing(stream) as running:
        async for score in running:
            assert isinstance(score, TaskScore)
            yield score


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Runs a scenario, and sees that it leaves no task of the event loop behind."""

    async def main() -> None:
        async with asyncio.timeout(600):
            await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def score_all(
    tasks: Sequence[Task], config: ScoreConfig, backend: FakeBackend | None = None
) -> list[TaskScore]:
    backend = backend or FakeBackend()
    found: list[TaskScore] = []

    async def scenario() -> None:
        found.extend([score async for score in stream(backend, tasks, config)])

    run(scenario)
    assert backend.pending == 0
    return found
