"""Scores tasks with any backend: references first, then all that is asked, without a barrier.

Reference outputs of the next few tasks are generated while what is asked about earlier ones is
answered: task after task, so that equal prefixes reach the engine together. Memory stays flat: so
many tasks are begun and not yet read, whatever the length of the pool.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from engine.errors import EngineError, InputError
from engine.measures import flip_rate, perplexity, prediction_probability, prompt_uncertainty
from engine.prompts import EncodedPrompt, PromptBuilder
from engine.protocol.api import PairScore, Reference, SkippedTask, TaskScore, Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Backend, Generated
from engine.questions.children import Children, together
from engine.questions.pair_plan import (
    Pair,
    TaskPlan,
    plan_pairs,
    plan_task,
    reusable_tokens,
    second_readings,
)
from engine.questions.planners import in_planner, in_planners
from engine.questions.question import Asked
from engine.questions.question_registry import find_question
from engine.questions.task_work import TaskWork
from engine.tasks import Instance, Task
from engine.variance.pair_grid import PairGrid

KEPT_TOKENS = 1_000_000
"""Tokens of prompts that a scorer keeps between check and score, 36 bytes each."""


class TaskScorer:
    """Scores a sequence of tasks under one config.

    Args:
        skip_faulty: Report tasks that cannot be scored as skipped instead of failing.

    Raises:
        InputError: If there is no such measure, or it does not go with the design.
    """

    def __init__(
        self,
        backend: Backend,
        config: ScoreConfig,
        weights_version: str,
        *,
        skip_faulty: bool = False,
    ) -> None:
        self._faults = (InputError, EngineError) if skip_faulty else ()
        self._backend = backend
        self._config = config
        told = config.with_second_readings(backend.precision)
        self._second_readings = told.second_readings or 0
        self._question = find_question(config, section="config.")
        self._version = weights_version
        self._builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
        self._slots = asyncio.Semaphore(backend.max_in_flight)
        self._kept: dict[str, tuple[Task, TaskPlan]] = {}

    async def check(
        self, tasks: Sequence[Task], limit: Callable[[int], object] = lambda tokens: None
    ) -> int:
        """Plans every task without running it, so that bad input fails before work starts.

        Plans are kept for `score`, up to `KEPT_TOKENS`.

        Args:
            limit: Told the tokens so far, and first the fewest that they can come to, before any
                prompt is rendered; raises if they are too many.

        Returns:
            The tokens it takes: the prompts of all that is asked, perturbed ones taken to be as
            long as the original, each with what is scored or the longest output allowed.

        Raises:
            InputError: If two tasks share an id; and as `engine.questions.pair_plan.plan_task`,
                unless faulty tasks are skipped.
        """
        seen: set[str] = set()
        for task in tasks:
            if task.id in seen:
                raise InputError("two tasks share this id", record=task.id, field="tasks.id")
            seen.add(task.id)
        limit(sum(self._fewest_tokens(task) for task in tasks))
        tokens, room = 0, KEPT_TOKENS
        async with aclosing(in_planners(self._plan_and_count, tasks)) as all_planned:
            async for task, planned in all_planned:
                try:
                    plan, of_task = await planned
                except self._faults:
                    continue
                tokens += of_task
                limit(tokens)
                if plan.n_tokens <= room:
                    room -= plan.n_tokens
                    self._kept[task.id] = (task, plan)
        return tokens

    def _fewest_tokens(self, task: Task) -> int:
        n_prompts, longest = (
            self._config.n_prompts(len(task.instances)),
            1 + self._config.max_output_tokens,
        )
        if self._config.fit_perturbations:  # all of which are laid out
            n = min(len(task.instances), self._config.n_instances)
            n_prompts = max(n_prompts, n * (1 + len(self._config.fitted)))
        if self._question is None:
            return n_prompts * longest
        asked = self._question.n_asked(task, self._config)
        return (n_prompts + asked.samples) * longest + 2 * asked.pairs

    def _plan_and_count(self, task: Task) -> tuple[TaskPlan, int]:
        """The plan of a task, and the tokens that it takes, see `check`."""
        config, plan = self._config, self._plan(task)
        n = len(plan.originals)
        perturbed = config.n_prompts(n) / n
        of_originals = sum(len(each.token_ids) for each in plan.originals)
        again = min(self._second_readings, n) / n
        tokens = (of_originals + n * config.max_output_tokens) * (perturbed + again)
        if self._question:
            asked = self._question.plan(plan, (), config, self._builder)
            most = sum(one.call.most_tokens for one in asked)
            tokens += most * (perturbed if self._question.crossed else 1)
        return plan, math.ceil(tokens)

    def _plan(self, task: Task) -> TaskPlan:
        known, plan = self._kept.pop(task.id, (None, None))
        if plan is None or known is not task:
            plan = plan_task(task, self._config, self._builder)
            if self._question and (fault := self._question.fault(plan.task, self._config)):
                raise fault
        return plan

    async def score(self, tasks: Iterable[Task]) -> AsyncGenerator[TaskScore | SkippedTask, None]:
        """Yields the score of each task, in the order of the tasks.

        Raises:
            InputError: If a pair does not fit the context.
            EngineError: If the engine fails, or answers something that is not a probability.

        Neither is raised for a task that is skipped instead. An engine that is dead skips none.
        """
        most = 2 * max(2, self._backend.max_in_flight // self._config.n_instances)
        children = Children()
        begun: deque[asyncio.Task[TaskScore | SkippedTask]] = deque()
        submitted: asyncio.Task[Any] | None = None
        left = iter(tasks)
        try:
            while True:
                while len(begun) < most and (task := next(left, None)) is not None:
                    work = children.spawn(self._reference(task))
                    submitted = children.spawn(self._submit(work, submitted, children))
                    begun.append(children.spawn(self._collect(task, work, submitted)))
                if not begun:
                    return
                yield await begun.popleft()
        finally:
            await children.end()

    async def _reference(self, task: Task) -> TaskWork:
        """The reference outputs of a task, and what remains to be asked.

        Generating a reference already gives its log-probabilities under the original prompt, so
        only gold outputs are scored under j = 0.
        """
        plan = await in_planner(self._plan, task)
        group = self._backend.new_group()
        if self._config.reference == "gold":
            outputs = await in_planner(self._gold_outputs, plan)
            finish_reasons = ["gold"] * len(outputs)
            known, usage = [], Usage()
        else:
            generated = await self._generate(plan, group)
            outputs = [output.token_ids for output in generated]
            finish_reasons = [output.finish_reason for output in generated]
            known = [
                PairScore.of(instance.id, 0, len(original.token_ids), output.token_logprobs, True)
                for instance, original, output in zip(
                    plan.instances, plan.originals, generated, strict=True
                )
            ]
            usage = Usage(
                tokens_submitted=sum(output.n_submitted for output in generated),
                tokens_reused=sum(output.n_reused for output in generated),
                tokens_generated=sum(len(output.token_ids) for output in generated),
            )
        planned = await in_planner(self._plan_calls, plan, outputs)
        pairs, again, asked, reusable = planned
        usage = usage.model_copy(update={"tokens_reusable": reusable})
        references = self._references(plan, outputs, finish_reasons)
        return TaskWork(plan, group, references, known, pairs, again, asked, usage)

    def _gold_outputs(self, plan: TaskPlan) -> list[tuple[int, ...]]:
        return [self._builder.completion(instance.outputs[0]) for instance in plan.instances]

    def _plan_calls(
        self, plan: TaskPlan, outputs: Sequence[tuple[int, ...]]
    ) -> tuple[list[Pair], list[Pair], list[Asked], int]:
        """All pairs of a task, those read again, what is asked, and how many tokens recur."""
        config, builder = self._config, self._builder
        gold = config.reference == "gold"
        pairs = plan_pairs(plan, outputs, config, builder, originals=gold)
        moved = any(pair.perturbation for pair in pairs)
        again = second_readings(plan, outputs, self._second_readings if moved else 0)
        asked = self._question.plan(plan, pairs, config, builder) if self._question else []
        if self._question and self._question.draws:
            pairs = [replace(pair, continued=True) for pair in pairs]
        sequences = [pair.submitted for pair in pairs]
        sequences += [one.call.submitted for one in asked]
        if not gold:
            sequences += [original.token_ids for original in plan.originals]
        reusable = reusable_tokens(sequences) + reusable_tokens(pair.submitted for pair in again)
        return pairs, again, asked, reusable

    async def _generate(self, plan: TaskPlan, group: int) -> list[Generated]:
        async def generate(instance: Instance, original: EncodedPrompt) -> Generated:
            async with self._slots:
                return await self._backend.generate(
                    original.token_ids,
                    self._config.max_output_tokens,
                    self._builder.end,
                    f"{plan.task.id}/{instance.id}",
                    group,
                )

        return await together(
            [
                asyncio.create_task(generate(instance, original))
                for instance, original in zip(plan.instances, plan.originals, strict=True)
            ]
        )

    def _references(
        self, plan: TaskPlan, outputs: Sequence[tuple[int, ...]], finish_reasons: Sequence[str]
    ) -> tuple[Reference, ...]:
        return tuple(
            Reference(
                instance_id=instance.id,
                text=self._builder.decode(output),
                token_ids=output,
                finish_reason=finish_reason,
                n_prompt_tokens=len(original.token_ids),
                n_positive_examples=original.n_positive_examples,
                n_negative_examples=original.n_negative_examples,
            )
            for instance, original, output, finish_reason in zip(
                plan.instances, plan.originals, outputs, finish_reasons, strict=True
            )
        )

    async def _submit(
        self,
        referenced: asyncio.Task[TaskWork],
        before: asyncio.Task[Any] | None,
        children: Children,
    ) -> list[asyncio.Task[tuple[Any, Usage]]]:
        """The running calls about a task, pairs first: those of the task before are submitted."""
        if before is not None:
            await asyncio.wait([before])
        work = await referenced
        calls = work.calls
        running: dict[int, asyncio.Task[tuple[Any, Usage]]] = {}
        # Stable, so pairs come first: behind a sample the cache might cover the output of its pair.
        for place in sorted(range(len(calls)), key=lambda each: calls[each].perturbation):
            await self._slots.acquire()
            call = children.spawn(calls[place].ask(self._backend, work.group))
            # Not inside the child: one that is cancelled early never starts.
            call.add_done_callback(lambda _: self._slots.release())
            running[place] = call
        return [running[place] for place in range(len(calls))]

    async def _collect(
        self,
        task: Task,
        referenced: asyncio.Task[TaskWork],
        submitted: asyncio.Task[list[asyncio.Task[tuple[Any, Usage]]]],
    ) -> TaskScore | SkippedTask:
        try:
            work = await referenced
            results = await together(await submitted)
        except self._faults as fault:
            return SkippedTask.because(task.id, fault)
        answers = [answer for answer, _ in results]
        usage = Usage.total([work.usage, *(usage for _, usage in results)])
        if self._question is None:
            return self._score(work, answers, usage)
        # Beside the event loop: thousands of outputs are compared.
        return await asyncio.to_thread(self._score, work, answers, usage)

    def _score(self, work: TaskWork, answers: Sequence[Any], usage: Usage) -> TaskScore:
        """The score of a task, given the answers to all calls."""
        order = {instance.id: index for index, instance in enumerate(work.plan.instances)}

        def place(row: Any) -> tuple[int, int]:
            return order[row.instance_id], row.perturbation

        scored, again, on_top = work.told_apart(answers)
        pairs = sorted(work.pair_scores(scored, again), key=place)
        asked = {}
        if question := self._question:
            rows = question.keep(work.asked, on_top, work.plan.task, self._builder)
            asked[question.name] = question.answer(sorted(rows, key=place), work.plan.task)
        grid = PairGrid.of(pairs)
        return TaskScore(
            task_id=work.plan.task.id,
            prompt_uncertainty=prompt_uncertainty(grid),
            prediction_probability=prediction_probability(grid),
            perplexity=perplexity(grid),
            n_instances=len(work.plan.instances),
            n_perturbations=self._config.n_perturbations,
            flip_rate=None if self._config.reference == "gold" else flip_rate(grid),
            precision=self._backend.precision,
            weights_version=self._version,
            references=work.references,
            pairs=tuple(pairs),
            usage=usage,
            answers=asked,
        )
