"""Several engines that were started independently, as one: work is spread, weights reach all."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from engine.api import (
    CompletionLogprobs,
    CompletionLogprobsResponse,
    TaskScore,
    TokenPair,
    Usage,
    WeightsState,
)
from engine.config import ScoreConfig
from engine.errors import EngineError, InputError
from engine.tasks import Task
from training.live import Engine

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

_TASKS_AT_ONCE = 4
_PROMPTS_AT_ONCE = 32
_PAIRS_AT_ONCE = 8
_STOP_SECONDS = 5.0


class Fleet:
    """Implements `training.live.Engine` over several of them.

    A task goes to one engine as a whole, because its pairs share their prefixes. An engine that
    fails gets no more work from this process, and what it had not finished goes to the others.

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

    def score(self, tasks: Sequence[Task], config: ScoreConfig) -> Iterator[TaskScore]:
        """Scores as tasks finish, each task once.

        Raises:
            InputError: If an engine finds fault with a task.
            EngineError: If all engines have failed.
        """
        yield from _Scoring(self, tasks, config).run()

    def weights(self) -> WeightsState:
        """The live weights, which are the same on all engines; `mixed: ...` when they are not.

        An engine that does not answer gets no more work.

        Raises:
            EngineError: If none answers.
        """
        states: dict[str, WeightsState] = {}
        for name in self.names():
            try:
                states[name] = self.engine(name).weights()
            except EngineError as error:
                self.drop(name, error)
        self.names()
        versions = {state.version for state in states.values()}
        if len(versions) == 1:
            return next(iter(states.values()))
        listed = ", ".join(f"{name} {state.version}" for name, state in states.items())
        return WeightsState(version=f"mixed: {listed}", path="")

    def load_weights(self, path: Path, version: str) -> WeightsState:
        """Make a checkpoint live on all engines or on none.

        If one of them refuses, those that have it already go back to what they had.

        Raises:
            InputError: If the checkpoint was refused.
            EngineError: If an engine failed. Engines that served the base model cannot go back to
                it and are named.
        """
        before = {name: self.engine(name).weights() for name in self.alive}
        done: list[str] = []
        state: WeightsState | None = None
        try:
            for name, old in before.items():
                if old.version != version:
                    state = self.engine(name).load_weights(path, version)
                    done.append(name)
        except (EngineError, InputError) as error:
            self._go_back({name: before[name] for name in done}, error)
            raise
        return state or self.weights()

    def _go_back(self, before: Mapping[str, WeightsState], cause: Exception) -> None:
        for name, old in before.items():
            try:
                self.engine(name).load_weights(Path(old.path), old.version)
            except (EngineError, InputError) as error:
                raise EngineError(
                    f"{cause}; and {name} could not go back to {old.version!r} ({error}): "
                    "start it again"
                ) from cause

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        """Greedy outputs, decoded, in order, spread over the engines."""
        return self._spread(
            prompts, _PROMPTS_AT_ONCE, lambda engine, part: engine.generate(part, max_tokens)
        )

    def completion_logprobs(self, pairs: Sequence[TokenPair]) -> CompletionLogprobsResponse:
        """Log-probabilities of fixed completions, in order, spread over the engines.

        Neighbours mostly stay together, because their prompts begin alike.

        Raises:
            InputError: If an engine finds fault with a pair.
            EngineError: If all engines have failed, or they serve different weights.
        """
        answers: list[CompletionLogprobsResponse] = []

        def ask(engine: Engine, part: Sequence[TokenPair]) -> Sequence[CompletionLogprobs]:
            answers.append(engine.completion_logprobs(part))
            return answers[-1].results

        share = -(-len(pairs) // len(self.names()))
        results = self._spread(pairs, max(_PAIRS_AT_ONCE, share), ask)
        versions = {answer.weights_version for answer in answers} or {self.weights().version}
        if len(versions) > 1:
            raise EngineError(f"the engines serve different weights: {', '.join(sorted(versions))}")
        return CompletionLogprobsResponse(
            weights_version=versions.pop(),
            results=tuple(results),
            usage=sum((answer.usage for answer in answers), Usage()),
        )

    def _spread(
        self,
        items: Sequence[_Item],
        at_once: int,
        ask: Callable[[Engine, Sequence[_Item]], Sequence[_Answer]],
    ) -> list[_Answer]:
        """An answer per item, in order; parts go to whichever engine is free."""
        answers: dict[int, _Answer] = {}
        faults: list[InputError] = []
        starts = deque(range(0, len(items), at_once))

        def work(name: str) -> None:
            while True:
                with self._lock:
                    if not starts or faults:
                        return
                    start = starts.popleft()
                try:
                    part = ask(self.engine(name), items[start : start + at_once])
                except EngineError as error:
                    with self._lock:
                        starts.appendleft(start)
                    self.drop(name, error)
                    return
                except InputError as fault:
                    faults.append(fault)
                    return
                with self._lock:
                    answers.update(enumerate(part, start))

        while starts and not faults:
            workers = [threading.Thread(target=work, args=(name,)) for name in self.names()]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        if faults:
            raise faults[0]
        return [answers[index] for index in range(len(items))]

    def drop(self, name: str, error: EngineError) -> None:
        """Give an engine no more work."""
        logger.warning("engine %s gets no more work: %s", name, error)
        with self._lock:
            self._engines.pop(name, None)
            self._last_error = error

    def engine(self, name: str) -> Engine:
        """The engine of this name."""
        with self._lock:
            return self._engines[name]

    def names(self) -> list[str]:
        """Names of the engines that have not failed; `EngineError` if all have."""
        names = self.alive
        if not names:
            raise EngineError(f"no engine is left; the last one failed: {self._last_error}")
        return names


class _Scoring:
    """One scoring over a fleet: a thread per engine takes a few tasks at a time."""

    def __init__(self, fleet: Fleet, tasks: Sequence[Task], config: ScoreConfig) -> None:
        self._fleet = fleet
        self._config = config
        self._waiting = deque(tasks)
        self._n_unfinished = len(tasks)
        self._changed = threading.Condition()
        self._stopped = False
        self._results: SimpleQueue[TaskScore | Exception] = SimpleQueue()

    def run(self) -> Iterator[TaskScore]:
        """Yield scores as they come from the threads."""
        left = self._n_unfinished
        names = self._fleet.names()
        workers = [threading.Thread(target=self._work, args=(name,), daemon=True) for name in names]
        for worker in workers:
            worker.start()
        try:
            while left:
                result = self._results.get()
                if isinstance(result, Exception):
                    raise result
                left -= 1
                yield result
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            for worker in workers:  # one may hang in a request; its scores are not read any more
                worker.join(_STOP_SECONDS)

    def _work(self, name: str) -> None:
        """Take tasks until none is left unfinished anywhere, or this engine fails."""
        engine = self._fleet.engine(name)
        while batch := self._take():
            left = {task.id: task for task in batch}
            try:
                for score in engine.score(batch, self._config):
                    if left.pop(score.task_id, None) is not None:
                        self._finish(score)
                    if self._stopped:
                        return
                if left:
                    raise EngineError(f"no score for {', '.join(left)}")
            except EngineError as error:
                self._hand_back(name, list(left.values()), error)
                return
            except InputError as error:
                self._results.put(error)
                return

    def _take(self) -> list[Task]:
        """The next tasks; waits while others may yet hand some back; empty when all is done."""
        with self._changed:
            while not self._waiting and self._n_unfinished and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return []
            n = min(_TASKS_AT_ONCE, len(self._waiting))
            return [self._waiting.popleft() for _ in range(n)]

    def _finish(self, score: TaskScore) -> None:
        with self._changed:
            self._n_unfinished -= 1
            self._changed.notify_all()
        self._results.put(score)

    def _hand_back(self, name: str, tasks: Sequence[Task], error: EngineError) -> None:
        self._fleet.drop(name, error)
        with self._changed:
            self._waiting.extendleft(reversed(tasks))
            self._changed.notify_all()
        if not self._fleet.alive:
            self._results.put(EngineError(f"no engine is left; the last one failed: {error}"))
