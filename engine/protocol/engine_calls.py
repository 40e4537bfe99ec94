"""What may be asked of an engine, whoever carries it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.completions import CompletionLogprobsResponse, TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import Verification, WeightsState
from engine.tasks import Task


class Engine(Protocol):
    """A client of one engine, or several that act as one.

    All calls raise `InputError` if the engine finds fault with what it is asked, and `EngineError`
    if it cannot be reached or fails.
    """

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        """Scores as tasks finish, each once; tasks that cannot be scored go to `on_skip`.

        Without `on_skip`, such a task is an `InputError`.
        """
        ...

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions, in order."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        """Greedy outputs, decoded, in order; over with the token `end`."""
        ...

    def weights(self) -> WeightsState:
        """The live weights."""
        ...

    def load_weights(
        self, path: Path, version: str, *, verify: Verification = "probes"
    ) -> WeightsState:
        """Load a published checkpoint; `EngineError` if it did not become live.

        Args:
            verify: See `engine.protocol.weights_state.LoadWeightsRequest`.
        """
        ...
