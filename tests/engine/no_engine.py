"""Refuses every question: what fakes of an engine begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import CompletionLogprobsResponse, TokenPair
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import Verification, WeightsState
from engine.tasks import Task


class NoEngine(Engine):
    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        raise AssertionError

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        raise AssertionError

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        raise AssertionError

    def weights(self) -> WeightsState:
        raise AssertionError

    def load_weights(
        self, path: Path, version: str, *, verify: Verification = "probes"
    ) -> WeightsState:
        raise AssertionError
