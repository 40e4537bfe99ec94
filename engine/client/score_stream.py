"""The tasks of one streamed request, and the lines that answer it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from engine.client.line_stream import parsed_line
from engine.client.sendable import as_json
from engine.client.wire import SCORE_PATH
from engine.errors import EngineError, UnavailableError
from engine.protocol.api import (
    PromptUncertaintyRequest,
    SkippedTask,
    StreamTotals,
    TaskScore,
    Usage,
)
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task


@dataclass
class Batch:
    """The tasks of one streamed request, and which of their scores have arrived.

    Attributes:
        tasks: The tasks, each with the instances that the design samples.
        config: What to measure.
        on_fault: What the server does about a task that cannot be scored.
        cache_salt: With whom prefixes are shared.
        usage: What the last request cost, once it was answered.
        path: The route.
    """

    path: ClassVar[str] = SCORE_PATH
    tasks: tuple[Task, ...]
    config: ScoreConfig
    on_fault: Literal["error", "skip"] = "error"
    cache_salt: str | None = None
    usage: Usage | None = None
    _arrived: set[str] = field(default_factory=set)
    _asked: int = 0
    _received: int = 0

    @classmethod
    def of(
        cls,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_fault: Literal["error", "skip"] = "error",
    ) -> Batch:
        """Only the instances that the design samples are sent."""
        sampled = tuple(
            task.with_instances(task.sample_instances(config.n_instances, config.seed))
            for task in tasks
        )
        # The paraphrases of a whole pool would be sent with every batch.
        perturbation = config.perturbation.only_for(sampled)
        return cls(sampled, config.model_copy(update={"perturbation": perturbation}), on_fault)

    def request(self) -> str:
        """The body that asks for what is still missing."""
        missing = tuple(task for task in self.tasks if task.id not in self._arrived)
        self._asked, self._received = len(missing), 0
        body = PromptUncertaintyRequest(
            tasks=missing,
            config=self.config,
            stream=True,
            on_fault=self.on_fault,
            cache_salt=self.cache_salt,
        )
        return as_json(body)

    def take(self, line: bytes) -> TaskScore | SkippedTask | None:
        """The score or the skipped task a line holds; None for the totals, which must be right.

        Raises:
            EngineError: If the line is not understood, or is about another task than asked for.
            InputError: If the server found fault with a task.
        """
        record = parsed_line(line, self.path, TaskScore, SkippedTask, StreamTotals)
        if isinstance(record, TaskScore | SkippedTask):
            self._received += 1
            self._arrived.add(record.task_id)
            return record
        if not record.tasks + record.skipped == self._received == self._asked:
            raise EngineError(
                f"{self._asked} tasks were asked for, the server says it sent {record.tasks} "
                f"scores and skipped {record.skipped}, {self._received} arrived"
            )
        self.usage = record.usage
        return None

    def broken_off(self) -> UnavailableError:
        """The error of a stream without totals."""
        return UnavailableError(
            f"scoring broke off after {len(self._arrived)} of {len(self.tasks)} tasks"
        )

    @property
    def complete(self) -> bool:
        """Whether every task's score has arrived."""
        return len(self._arrived) == len(self.tasks)
