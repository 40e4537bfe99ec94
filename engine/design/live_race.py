"""The race over a running engine: only the pairs that an extension adds are scored."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from engine.design.entries import Extension
from engine.design.extensions import Scored
from engine.design.measurement import WHOLE, Measurement
from engine.design.race_answers import Failure, RaceAnswer
from engine.errors import EngineError, InputError
from engine.prompts import PromptBuilder
from engine.protocol.api import PairScore, Reference, SkippedTask, TaskScore, Usage
from engine.protocol.completions import TokenPair
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, check_length, perturbed_prompts, plan_task
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid

REQUEST_PAIRS = 256
"""Pairs that are asked for together, at most; each answer is kept when it is there."""

_TOKENS = 1_000_000  # of such a request


class _Block(NamedTuple):
    """New instances of a task, all of which meet the same perturbations.

    Attributes:
        n: How many instances.
        first: The first of the perturbations.
        k: How many of them.
        begun: Whether the task has had instances before.
    """

    n: int
    first: int
    k: int
    begun: bool


class LiveTables:
    """The tables of all tasks, as far as they have been measured; `usage` is what they cost.

    Further instances are scored as a task of their own with the same id, so they meet the same
    perturbations; all other pairs as fixed ones, with the reference outputs that are known.

    Args:
        tasks: The tasks in the race.
        config: Prompts, perturbations and seed; its design is not used.
        max_perturbations: As many as a task may come to, see `engine.design.entries.RaceConfig`.
        version: The weights that every answer must come from; none: those of the first one.
        answers: What the engine answered in a race that broke off, in its order; not asked again.
            Where a task failed in it that is not skipped now, that is an error.
        on_answer: Called with each new answer of the engine, when it has been taken in.
        skip_faulty: Go on without tasks at which the engine fails.

    Raises:
        EngineError: If the answers come from different weights.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: Sequence[Task],
        config: ScoreConfig,
        builder: PromptBuilder,
        *,
        max_perturbations: int = WHOLE,
        version: str | None = None,
        answers: Iterable[RaceAnswer] = (),
        on_answer: Callable[[RaceAnswer], None] | None = None,
        skip_faulty: bool = False,
    ) -> None:
        self._engine = engine
        # All prompts of a table show equally many examples, whichever step asks for them.
        self._config = config.model_copy(update={"fit_perturbations": max_perturbations})
        self._builder = builder
        self._on_answer = on_answer
        self._skip_faulty = skip_faulty
        self._failed: dict[str, Failure] = {}
        self._tasks = {task.id: _shuffled(task, config.seed) for task in tasks}
        self._references: dict[str, list[Reference]] = {task.id: [] for task in tasks}
        self._pairs: dict[str, dict[tuple[str, int], PairScore]] = {t.id: {} for t in tasks}
        self._scored: dict[str, Scored] = {}
        self._version = version
        self.usage = Usage()
        for answer in answers:
            self._take(answer)

    @property
    def skipped(self) -> tuple[SkippedTask, ...]:
        """The tasks at which the engine failed, in the order in which it did."""
        return tuple(
            SkippedTask(task_id=each.task_id, reason=each.reason, field=each.field)
            for each in self._failed.values()
        )

    def extend(self, batch: Sequence[Extension]) -> dict[str, Measurement]:
        """Scores what is missing; the measurements of the extended tasks, without those skipped.

        Raises:
            InputError: If the engine finds fault with a task and such are not skipped.
            EngineError: If the engine fails, or its weights change on the way.
        """
        self._add_instances(self._standing(batch))
        self._add_pairs(self._standing(batch))
        batch = self._standing(batch)
        self._scored |= {each.task_id: each.scored for each in batch}
        return {
            each.task_id: Measurement.of_grid(PairGrid.of(self.pairs(each.task_id)))
            for each in batch
        }

    def _standing(self, batch: Sequence[Extension]) -> list[Extension]:
        """The steps at which the engine has not failed; a race that broke off fails at the same."""
        standing = []
        for step in batch:
            failure = self._failed.get(step.task_id)
            if failure is None or step.scored.sum() < failure.moves:
                standing.append(step)
            elif not self._skip_faulty:
                problem = f"was left out as faulty in an earlier call: {failure.reason}"
                raise InputError(problem, record=step.task_id, field=failure.field)
        return standing

    def _fail(self, task: SkippedTask, step: Extension) -> None:
        failure = Failure(**task.model_dump(), moves=int(step.scored.sum()))
        version = self._version or self._engine.weights().version
        self._hear(RaceAnswer(weights_version=version, usage=Usage(), failed=(failure,)))

    def pairs(self, task_id: str) -> list[PairScore]:
        """The pairs of a task's table, originals among them, by instance and perturbation."""
        known, pairs = self._pairs[task_id], []
        for reference, row in zip(self._references[task_id], self._scored[task_id], strict=False):
            columns = [0, *(np.flatnonzero(row) + 1).tolist()]
            pairs += [known[reference.instance_id, j] for j in columns]
        return pairs

    def _add_instances(self, batch: Sequence[Extension]) -> None:
        groups: dict[_Block, list[Extension]] = {}
        for step in batch:
            if block := self._new_block(step):
                groups.setdefault(block, []).append(step)
        for block in sorted(groups):
            self._score_blocks(block, groups[block])

    def _new_block(self, step: Extension) -> _Block | None:
        """What a step adds in new instances; None: nothing."""
        known = len(self._references[step.task_id])
        new = step.scored[known:]
        if not len(new):
            return None
        met = np.flatnonzero(new.any(axis=0))
        assert new[:, met].all(), "new instances meet the same perturbations"
        assert met[-1] - met[0] == len(met) - 1, "one after the other"
        return _Block(len(new), int(met[0]) + 1, len(met), known > 0)

    def _score_blocks(self, block: _Block, steps: Sequence[Extension]) -> None:
        """Scores such a block of the task of every step."""
        design = self._config.with_design(block.n, block.k, block.first)
        if block.begun:  # rounding has been told of
            design = design.model_copy(update={"second_readings": 0})
        tasks = []
        for step in steps:
            task, known = self._tasks[step.task_id], len(self._references[step.task_id])
            tasks.append(task.with_instances(task.instances[known : known + block.n]))
        skipped: list[SkippedTask] = []
        on_skip = skipped.append if self._skip_faulty else None
        for score in self._engine.score(tasks, design, on_skip):
            pairs = _completed(score, range(block.first, block.first + block.k))
            self._hear(
                RaceAnswer(
                    weights_version=score.weights_version,
                    usage=score.usage,
                    references={score.task_id: score.references},
                    pairs={score.task_id: pairs},
                )
            )
        by_task = {step.task_id: step for step in steps}
        for each in skipped:
            self._fail(each, by_task[each.task_id])

    def _add_pairs(self, batch: Sequence[Extension]) -> None:
        by_task = {step.task_id: step for step in batch}
        missing = (pair for step in batch for pair in self._missing(step))
        failed: set[str] = set()
        for request in _requests(missing):
            pairs = [pair for pair in request if pair.task_id not in failed]
            try:
                self._ask_pairs(pairs)
            except (InputError, EngineError):
                if not self._skip_faulty:
                    raise
                for task_id, of_task in groupby(pairs, key=lambda pair: pair.task_id):
                    if not self._ask_alone(task_id, list(of_task), by_task[task_id]):
                        failed.add(task_id)

    def _ask_alone(self, task_id: str, pairs: Sequence[Pair], step: Extension) -> bool:
        """Pairs of one task, which fails if the engine does so and lives; whether it did not."""
        try:
            self._ask_pairs(pairs)
        except (InputError, EngineError) as error:
            if self._engine.weights().version != self._version:
                raise
            self._fail(SkippedTask.because(task_id, error), step)
            return False
        return True

    def _ask_pairs(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        answer = self._engine.completion_logprobs(
            [
                TokenPair(prompt_token_ids=pair.prompt, completion_token_ids=pair.output)
                for pair in pairs
            ]
        )
        of_tasks: dict[str, list[PairScore]] = {}
        for pair, scored in zip(pairs, answer.results, strict=True):
            of_tasks.setdefault(pair.task_id, []).append(
                PairScore(
                    instance_id=pair.instance_id,
                    perturbation=pair.perturbation,
                    n_prompt_tokens=scored.n_prompt_tokens,
                    n_tokens=scored.n_tokens,
                    logprob=scored.logprob,
                    probability=math.exp(scored.mean_logprob),
                    is_greedy=scored.is_greedy,
                )
            )
        self._hear(
            RaceAnswer(
                weights_version=answer.weights_version,
                usage=answer.usage,
                pairs={task_id: tuple(found) for task_id, found in of_tasks.items()},
            )
        )

    def _hear(self, answer: RaceAnswer) -> None:
        self._take(answer)
        if self._on_answer is not None:
            self._on_answer(answer)

    def _take(self, answer: RaceAnswer) -> None:
        version = answer.weights_version
        if self._version is not None and version != self._version:
            raise EngineError(
                f"the engine's weights changed during the race, from {self._version!r} to "
                f"{version!r}"
            )
        self._version = version
        self.usage += answer.usage
        self._failed |= {each.task_id: each for each in answer.failed}
        for task_id, references in answer.references.items():
            self._references[task_id] += references
        for task_id, pairs in answer.pairs.items():
            for pair in pairs:
                self._pairs[task_id][pair.instance_id, pair.perturbation] = pair

    def _missing(self, step: Extension) -> list[Pair]:
        """The pairs of a task that have not been scored yet, perturbation by perturbation."""
        task, references = self._tasks[step.task_id], self._of_step(step)
        known = self._pairs[step.task_id]
        columns: dict[int, list[int]] = {}
        for i, j in zip(*(each.tolist() for each in np.nonzero(step.scored)), strict=True):
            if (references[i].instance_id, j + 1) not in known:
                columns.setdefault(j + 1, []).append(i)
        if not columns:
            return []
        config = self._config.with_design(len(references), step.scored.shape[1])
        known_part = task.with_instances(task.instances[: len(references)])
        plan = plan_task(known_part, config, self._builder)
        for original, reference in zip(plan.originals, references, strict=True):
            if len(original.token_ids) != reference.n_prompt_tokens:
                raise EngineError(
                    f"{task.id}/{reference.instance_id}: the engine's prompt has "
                    f"{reference.n_prompt_tokens} tokens, here it has {len(original.token_ids)}"
                )
        pairs = []
        for j, wanted in sorted(columns.items()):
            prompts = perturbed_prompts(plan, j, wanted, config, self._builder)
            for i, prompt in zip(wanted, prompts, strict=True):
                reference = references[i]
                pair = Pair(task.id, reference.instance_id, j, prompt, reference.token_ids)
                check_length(pair, self._builder.max_model_len)
                pairs.append(pair)
        return pairs

    def _of_step(self, step: Extension) -> list[Reference]:
        """Its reference outputs; a race that broke off may have been further."""
        return self._references[step.task_id][: len(step.scored)]


def _requests(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """The pairs in requests that neither outgrow a server's limits nor are silent for long."""
    request: list[Pair] = []
    tokens = 0
    for pair in pairs:
        if request and (len(request) == REQUEST_PAIRS or tokens + pair.most_tokens > _TOKENS):
            yield request
            request, tokens = [], 0
        request.append(pair)
        tokens += pair.most_tokens
    if request:
        yield request


def _completed(score: TaskScore, numbers: Iterable[int]) -> tuple[PairScore, ...]:
    """The pairs of a score, also where so few perturbations happened to change no prompt.

    The engine then scores originals alone. Equal prompts have equal probabilities.
    """
    if score.prompt_uncertainty is not None:
        return score.pairs
    return tuple(
        pair.model_copy(update={"perturbation": j}) for pair in score.pairs for j in (0, *numbers)
    )


def race_order(task_id: str, size: int, seed: int) -> list[int]:
    """Positions of a task's instances in the order in which the race takes them."""
    return random.Random(f"race/{seed}/{task_id}").sample(range(size), size)


def _shuffled(task: Task, seed: int) -> Task:
    order = race_order(task.id, len(task.instances), seed)
    return task.with_instances(task.instances[index] for index in order)
