"""Scores tasks with any backend: references first, then all pairs, streamed without a barrier.

Two stages run side by side. The first generates the reference outputs of the next few tasks, the
second submits the pairs and samples of one task after the other, so that those with equal prefixes
reach the engine together. Memory stays flat: both stages are bounded, whatever the length of the
pool.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.errors import EngineError, InputError
from engine.measures import perplexity, prediction_probability, prompt_uncertainty
from engine.measures.disagreement import measure_disagreement
from engine.measures.label_uncertainty import measure_labels
from engine.prompts import EncodedPrompt, PromptBuilder
from engine.protocol.api import PairScore, Reference, SkippedTask, TaskScore, Usage
from engine.protocol.measurements import LabelUncertainty, OutputDisagreement, Sample
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Backend, Generated, PlannedSample
from engine.questions.label_plan import (
    LabelPair,
    ScoredLabel,
    check_labels,
    keep_labels,
    plan_labels,
)
from engine.questions.pair_plan import Pair, TaskPlan, plan_pairs, plan_task, reusable_tokens
from engine.questions.sample_plan import keep_sample, plan_samples
from engine.tasks import Instance, Task
from engine.variance.pair_grid import PairGrid

_T = TypeVar("_T")
_Piece = Pair | PlannedSample | LabelPair
_Result = PairScore | Sample | ScoredLabel

PLANNERS = 4
"""Threads that render and encode prompts, for all requests together."""

_planners = ThreadPoolExecutor(PLANNERS, thread_name_prefix="planner")


async def _in_planner(function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, called in one of the planners; if not begun, cancelled with us."""
    return await asyncio.get_running_loop().run_in_executor(_planners, function, *arguments)


@dataclass(frozen=True, slots=True)
class _Referenced:
    plan: TaskPlan
    group: int
    references: tuple[Reference, ...]
    known: list[PairScore]
    work: list[_Piece]
    usage: Usage


class TaskScorer:
    """Scores a sequence of tasks under one config.

    Args:
        backend: The engine.
        config: What to measure.
        weights_version: The version every score carries.
        skip_faulty: Report tasks that cannot be scored as skipped instead of failing.
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
        self._version = weights_version
        self._builder = PromptBuilder(backend.tokenizer, config.prompt, backend.max_model_len)
        self._slots = asyncio.Semaphore(backend.max_in_flight)

    async def check(
        self, tasks: Sequence[Task], limit: Callable[[int], object] = lambda tokens: None
    ) -> int:
        """Plans every task once without running it, so that bad input fails before work starts.

        Args:
            tasks: The tasks.
            limit: Told the tokens so far, and first the fewest that they can come to, before any
                prompt is rendered; raises if they are too many.

        Returns:
            The tokens it takes: the prompts of all pairs and samples, perturbed ones taken to be as
            long as the original, each with its label or the longest output allowed.

        Raises:
            InputError: If two tasks share an id; and as `engine.questions.pair_plan.plan_task`,
                unless faulty tasks are skipped.
        """
        seen: set[str] = set()
        for task in tasks:
            if task.id in seen:
                raise InputError("two tasks share this id", record=task.id, field="tasks.id")
            seen.add(task.id)
        config = self._config
        of_prompt = (1 + config.samples_per_prompt) * (1 + config.max_output_tokens)
        limit(sum(config.n_prompts(len(task.instances)) for task in tasks) * of_prompt)
        tokens = 0
        for task in tasks:
            try:
                tokens += await _in_planner(self._count, task)
            except self._faults:
                continue
            limit(tokens)
        return tokens

    def _count(self, task: Task) -> int:
        """The tokens that a task takes, see `check`."""
        plan = plan_task(task, self._config, self._builder)
        check_labels(plan, self._config)
        n = len(plan.originals)
        prompts = sum(len(original.token_ids) for original in plan.originals)
        labels = self._config.labels_to_score(plan.task)
        times = 1 + self._config.samples_per_prompt
        of_originals = times * (prompts + n * self._config.max_output_tokens)
        outputs = sum(len(self._builder.completion(label)) for label in labels)
        of_originals += len(labels) * prompts + n * outputs
        return math.ceil(of_originals * self._config.n_prompts(n) / n)

    async def score(self, tasks: Sequence[Task]) -> AsyncGenerator[TaskScore | SkippedTask, None]:
        """Yields the score of each task, in the order of the tasks.

        Raises:
            InputError: If a pair does not fit the context.
            EngineError: If the engine fails, or answers something that is not a probability.

        Neither is raised for a task that is skipped instead. An engine that is dead skips none.
        """
        async with aclosing(self._in_order(tasks)) as running:
            async for task in running:
                yield await task

    async def _in_order(
        self, tasks: Sequence[Task]
    ) -> AsyncGenerator[asyncio.Task[TaskScore | SkippedTask], None]:
        """Runs both stages; yields one running task score after the other."""
        ahead = max(2, self._backend.max_in_flight // self._config.n_instances)
        referenced: asyncio.Queue[asyncio.Task[_Referenced | SkippedTask] | None]
        referenced = asyncio.Queue(maxsize=ahead)
        scored: asyncio.Queue[asyncio.Task[TaskScore | SkippedTask] | None] = asyncio.Queue()
        unread = asyncio.Semaphore(ahead)
        children: set[asyncio.Task[Any]] = set()

        def spawn(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
            child = asyncio.create_task(work)
            children.add(child)
            child.add_done_callback(children.discard)
            # Whoever awaits the child sees its error; one that nobody awaits any more is no news.
            child.add_done_callback(lambda done: done.cancelled() or done.exception())
            return child

        async def generate_references() -> None:
            for task in tasks:
                await referenced.put(spawn(self._reference_or_skip(task)))
            await referenced.put(None)

        async def submit_pairs() -> None:
            try:
                while (waiting := await referenced.get()) is not None:
                    ready = await waiting
                    await unread.acquire()
                    running = []
                    if isinstance(ready, _Referenced):
                        for piece in ready.work:
                            await self._slots.acquire()
                            running.append(spawn(self._do(piece, ready)))
                            # Not inside the child: one that is cancelled early never starts.
                            running[-1].add_done_callback(lambda _: self._slots.release())
                    scored.put_nowait(spawn(self._collect(ready, running)))
            finally:
                scored.put_nowait(None)

        spawn(generate_references())
        submitter = spawn(submit_pairs())
        try:
            while (task := await scored.get()) is not None:
                yield task
                unread.release()
            await submitter
        finally:
            for child in list(children):
                child.cancel()
            await asyncio.gather(*children, return_exceptions=True)

    async def _reference_or_skip(self, task: Task) -> _Referenced | SkippedTask:
        try:
            return await self._reference(task)
        except self._faults as fault:
            return SkippedTask.because(task.id, fault)

    async def _reference(self, task: Task) -> _Referenced:
        """The reference outputs of a task, and the pairs that remain to be scored.

        Generating a reference already gives its log-probabilities under the original prompt, so
        only gold outputs are scored under j = 0.
        """
        plan = await _in_planner(plan_task, task, self._config, self._builder)
        check_labels(plan, self._config)
        group = self._backend.new_group()
        if self._config.reference == "gold":
            outputs = [self._builder.completion(instance.outputs[0]) for instance in plan.instances]
            finish_reasons = ["gold"] * len(outputs)
            known, usage = [], Usage()
        else:
            generated = await self._generate(plan, group)
            outputs = [output.token_ids for output in generated]
            finish_reasons = [output.finish_reason for output in generated]
            known = [
                PairScore.of(instance.id, 0, len(original.token_ids), output.token_logprobs)
                for instance, original, output in zip(
                    plan.instances, plan.originals, generated, strict=True
                )
            ]
            usage = Usage(
                tokens_submitted=sum(output.n_submitted for output in generated),
                tokens_reused=sum(output.n_reused for output in generated),
                tokens_generated=sum(len(output.token_ids) for output in generated),
            )
        work, reusable = await _in_planner(self._plan_work, plan, outputs)
        usage = usage.model_copy(update={"tokens_reusable": reusable})
        references = self._references(plan, outputs, finish_reasons)
        return _Referenced(plan, group, references, known, work, usage)

    def _plan_work(
        self, plan: TaskPlan, outputs: Sequence[tuple[int, ...]]
    ) -> tuple[list[_Piece], int]:
        """All pairs and samples of a task, and how many of their tokens could be reused."""
        config, builder = self._config, self._builder
        gold = config.reference == "gold"
        pairs = plan_pairs(plan, outputs, config, builder, originals=gold)
        samples: list[PlannedSample] = []
        if config.samples_per_prompt:
            samples = plan_samples(plan, pairs, config, self._backend.max_model_len)
        labels = plan_labels(plan, pairs, config, builder)
        sequences = [pair.prompt + pair.output[:-1] for pair in pairs]
        sequences += [sample.prompt for sample in samples]
        sequences += [label.pair.prompt + label.pair.output[:-1] for label in labels]
        if not gold:
            sequences += [original.token_ids for original in plan.originals]
        work: list[_Piece] = [*pairs, *samples, *labels]
        # Stable, so pairs come first: behind a sample the cache might cover the output of its pair.
        work.sort(key=lambda piece: piece.perturbation)
        return work, reusable_tokens(sequences)

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

        running = [
            asyncio.create_task(generate(instance, original))
            for instance, original in zip(plan.instances, plan.originals, strict=True)
        ]
        try:
            return await asyncio.gather(*running)
        finally:
            # When one fails, gather leaves its siblings running.
            for sibling in running:
                sibling.cancel()
            await asyncio.gather(*running, return_exceptions=True)

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

    async def _do(self, piece: _Piece, ready: _Referenced) -> tuple[_Result, Usage]:
        if isinstance(piece, PlannedSample):
            return await self._sample(piece, ready)
        pair = piece.pair if isinstance(piece, LabelPair) else piece
        scored = await self._backend.score(pair.prompt, pair.output, piece.name, ready.group)
        usage = Usage(
            pairs=1,
            tokens_submitted=scored.n_submitted,
            tokens_reused=scored.n_reused,
            pairs_rescored=int(scored.rescored),
        )
        if isinstance(piece, LabelPair):
            return ScoredLabel(piece, scored.token_logprobs), usage
        name, j, length = pair.instance_id, pair.perturbation, len(pair.prompt)
        return PairScore.of(name, j, length, scored.token_logprobs), usage

    async def _sample(self, planned: PlannedSample, ready: _Referenced) -> tuple[Sample, Usage]:
        longest = self._config.max_output_tokens
        sampled = await self._backend.sample(planned, longest, self._builder.end, ready.group)
        text = self._builder.decode(sampled.token_ids)
        usage = Usage(
            samples=1,
            tokens_submitted=sampled.n_submitted,
            tokens_reused=sampled.n_reused,
            tokens_sampled=len(sampled.token_ids),
        )
        return keep_sample(planned, sampled, text, ready.plan.task.labels), usage

    async def _collect(
        self,
        ready: _Referenced | SkippedTask,
        running: Sequence[asyncio.Task[tuple[_Result, Usage]]],
    ) -> TaskScore | SkippedTask:
        if isinstance(ready, SkippedTask):
            return ready
        try:
            results = await asyncio.gather(*running)
        except self._faults as fault:
            for piece in running:
                piece.cancel()
            return SkippedTask.because(ready.plan.task.id, fault)
        order = {instance.id: index for index, instance in enumerate(ready.plan.instances)}
        pairs = sorted(
            [*ready.known, *(score for score, _ in results if isinstance(score, PairScore))],
            key=lambda score: (order[score.instance_id], score.perturbation),
        )
        samples = sorted(
            (sample for sample, _ in results if isinstance(sample, Sample)),
            key=lambda each: (order[each.instance_id], each.perturbation, each.sample),
        )
        grid = PairGrid.of(pairs)
        return TaskScore(
            task_id=ready.plan.task.id,
            prompt_uncertainty=prompt_uncertainty(grid),
            prediction_probability=prediction_probability(grid),
            perplexity=perplexity(grid),
            n_instances=len(ready.plan.instances),
            n_perturbations=self._config.n_perturbations,
            weights_version=self._version,
            references=ready.references,
            pairs=tuple(pairs),
            usage=sum((usage for _, usage in results), ready.usage),
            disagreement=await self._disagreement(samples, ready.plan.task),
            labels=await self._labels(
                [label for label, _ in results if isinstance(label, ScoredLabel)], order
            ),
        )

    async def _disagreement(
        self, samples: Sequence[Sample], task: Task
    ) -> OutputDisagreement | None:
        if not samples:
            return None
        # Beside the event loop: thousands of outputs are compared.
        return await asyncio.to_thread(measure_disagreement, samples, labelled=bool(task.labels))

    async def _labels(
        self, scored: Sequence[ScoredLabel], order: Mapping[str, int]
    ) -> LabelUncertainty | None:
        if not scored:
            return None
        ordered = sorted(
            scored,
            key=lambda each: (
                order[each.planned.pair.instance_id],
                each.planned.perturbation,
                each.planned.place,
            ),
        )
        return await asyncio.to_thread(lambda: measure_labels(keep_labels(ordered)))
