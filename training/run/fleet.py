"""Several engines that were started independently, as one: work is spread, weights reach all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from engine.errors import EngineError, InputError
from engine.protocol.api import SkippedTask, TaskScore, Usage
from engine.protocol.completions import CompletionLogprobs, CompletionLogprobsResponse, TokenPair
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import Verification, WeightsState
from engine.tasks import Task
from training.run.spreading import Ask, FaultyItemError, Spreading

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_TASKS_AT_ONCE = 32
_PROMPTS_AT_ONCE = 32
_PAIRS_AT_ONCE = 8


class Fleet:
    """Implements `engine.protocol.engine_calls.Engine` over several of them.

    A task goes to one engine as a whole, because its pairs share their prefixes. An engine that
    does not answer any more, or fails at what another engine can do, gets no more work from this
    process, and what it had not finished goes to the others; see `training.run.spreading`.

    Args:
        engines: Engines by name (their URL).

    Raises:
        InputError: If there is none.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        if not engines:
            raise InputError("names no engine", field="engine.urls")
        self._engines = dict(engines)
        self._lock = threading.Lock()
        self._last_error: EngineError | None = None

    @property
    def alive(self) -> list[str]:
        """Names of the engines that have not failed."""
        with self._lock:
            return list(self._engines)

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        """Scores as tasks finish, each task once.

        Args:
            tasks: The tasks.
            config: What to measure.
            on_skip: Called with every task that cannot be scored; without it, such a task is an
                error. A task that two engines failed at by itself is one.

        Raises:
            InputError: If a task is at fault.
            EngineError: If all engines have failed.
        """
        tasks = list(tasks)
        numbers = {task.id: index for index, task in enumerate(tasks)}

        def ask(
            engine: Engine, part: Sequence[int]
        ) -> Iterator[tuple[int, TaskScore | SkippedTask]]:
            skipped: list[SkippedTask] = []
            some = [tasks[index] for index in part]
            for score in engine.score(some, config, skipped.append if on_skip else None):
                if score.task_id in numbers:
                    yield numbers[score.task_id], score
            for one in skipped:
                yield numbers[one.task_id], one

        def skip(fault: FaultyItemError) -> None:
            assert on_skip is not None
            on_skip(SkippedTask.because(tasks[fault.index].id, fault))

        answers = self._spread(
            len(tasks),
            _TASKS_AT_ONCE,
            ask,
            lambda index: tasks[index].id,
            skip if on_skip else None,
            at_least=1,
        )
        with closing(answers):
            for _, answer in answers:
                if isinstance(answer, TaskScore):
                    yield answer
                elif on_skip is not None:
                    on_skip(answer)

    def weights(self) -> WeightsState:
        """The live weights, which are the same on all engines; `mixed: ...` when they are not.

        An engine that does not answer gets no more work.

        Raises:
            InputError: If two serve different models, whatever weights were loaded since.
            EngineError: If none answers.
        """
        states: dict[str, WeightsState] = {}
        for name in self.names():
            try:
                states[name] = self.engine(name).weights()
            except EngineError as error:
                self.drop(name, error)
        self.names()
        for (one, first), (other, second) in combinations(states.items(), 2):
            if found := first.difference(second):
                problem = f"{one} and {other} serve different models, {found}"
                raise InputError(problem, field="engine.urls")
        versions = {state.version for state in states.values()}
        if len(versions) == 1:
            return next(iter(states.values()))
        listed = ", ".join(f"{name} {state.version}" for name, state in states.items())
        served = next(iter(states.values())).served
        return WeightsState(version=f"mixed: {listed}", path="", served=served)

    def load_weights(
        self, path: Path, version: str, *, verify: Verification = "probes"
    ) -> WeightsState:
        """Make a checkpoint live on all engines or on none.

        If one of them refuses, those that have it already go back to what they had.

        Raises:
            InputError: If the checkpoint was refused.
            EngineError: If an engine failed; one that cannot go back is named.
        """
        before = {name: self.engine(name).weights() for name in self.alive}
        done: list[str] = []
        state: WeightsState | None = None
        try:
            for name, old in before.items():
                if old.version != version:
                    state = self.engine(name).load_weights(path, version, verify=verify)
                    done.append(name)
        except (EngineError, InputError) as error:
            self._go_back({name: before[name] for name in done}, error)
            raise
        return state or self.weights()

    def _go_back(self, before: Mapping[str, WeightsState], cause: Exception) -> None:
        for name, old in before.items():
            try:
                # By what they were verified; nobody vouches for those that had no manifest.
                how = old.verified or "probes"
                self.engine(name).load_weights(Path(old.path), old.version, verify=how)
            except (EngineError, InputError) as error:
                raise EngineError(
                    f"{cause}; and {name} could not go back to {old.version!r} ({error}): "
                    "start it again"
                ) from cause

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
        """Greedy outputs, decoded, in order, spread over the engines."""

        def ask(engine: Engine, part: Sequence[int]) -> Iterable[tuple[int, str]]:
            outputs = engine.generate([prompts[index] for index in part], max_tokens, end)
            return zip(part, outputs, strict=True)

        answers = dict(self._spread(len(prompts), _PROMPTS_AT_ONCE, ask, "prompt {}".format))
        return [answers[index] for index in range(len(prompts))]

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions, in order, spread over the engines.

        Neighbours mostly stay together, because their prompts begin alike.

        Raises:
            InputError: If an engine finds fault with a pair.
            EngineError: If all engines have failed, or they serve different weights.
        """
        answers: list[CompletionLogprobsResponse] = []

        def ask(engine: Engine, part: Sequence[int]) -> Iterable[tuple[int, CompletionLogprobs]]:
            answers.append(engine.completion_logprobs([pairs[index] for index in part]))
            return zip(part, answers[-1].results, strict=True)

        share = -(-len(pairs) // len(self.names()))
        results = dict(self._spread(len(pairs), max(_PAIRS_AT_ONCE, share), ask, "pair {}".format))
        versions = {answer.weights_version for answer in answers} or {self.weights().version}
        if len(versions) > 1:
            raise EngineError(f"the engines serve different weights: {', '.join(sorted(versions))}")
        return CompletionLogprobsResponse(
            weights_version=versions.pop(),
            results=tuple(
                results[index].model_copy(update={"index": index}) for index in range(len(pairs))
            ),
            usage=Usage.total(answer.usage for answer in answers),
        )

    def _spread(
        self,
        n_items: int,
        at_once: int,
        ask: Ask[_Answer],
        name_of: Callable[[int], str],
        on_fault: Callable[[FaultyItemError], None] | None = None,
        *,
        at_least: int | None = None,
    ) -> Generator[tuple[int, _Answer], None, None]:
        """See `training.run.spreading.Spreading`; an item at fault is a named `InputError`."""
        engines = {name: self.engine(name) for name in self.names()}
        work = Spreading(engines, ask, self.drop, on_fault)
        try:
            yield from work.run(n_items, at_once, at_once if at_least is None else at_least)
        except FaultyItemError as fault:
            raise InputError(str(fault), record=name_of(fault.index)) from fault

    def drop(self, name: str, error: EngineError) -> None:
        """Give an engine no more work."""
        logger.warning("engine %s gets no more work: %s", name, error)
        with self._lock:
            self._engines.pop(name, None)
            self._last_error = error

    def engine(self, name: str) -> Engine:
        with self._lock:
            return self._engines[name]

    def names(self) -> list[str]:
        """Names of the engines that have not failed; `EngineError` if all have."""
        names = self.alive
        if not names:
            raise EngineError(f"no engine is left; the last one failed: {self._last_error}")
        return names
