"""What scoring a pool will take, judged by a sample of its tasks."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from engine.errors import InputError
from engine.pools.word_tokenizer import TOKENS_PER_WORD, WordTokenizer
from engine.prompts import PromptBuilder
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import plan_pairs, plan_task, reusable_tokens
from engine.tasks import Record, Task

SAMPLE_TASKS = 32
"""Tasks whose pairs are laid out to count tokens."""


class Rate(Record):
    """How fast an engine is.

    Attributes:
        pairs_per_second: Pairs scored per second.
        origin: Where that is from, as a phrase.
    """

    pairs_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    origin: str = "given"


class Estimate(Record):
    """What scoring a pool takes.

    Attributes:
        pairs: Pairs to score: instances of the design, counted, times the pairs an instance has in
            the sample.
        references: Reference outputs to generate; 0 where gold outputs are scored.
        unit: `tokens`, or `words` where the tokens are reckoned from words.
        sampled_tasks: Tasks whose pairs were laid out to find the means below.
        unfit_tasks: Of these, tasks that the design or the context cannot take; left out.
        tokens_per_pair: Mean tokens of a pair. Where references are generated, they are taken to
            be as long as the gold outputs, or `max_output_tokens` if there are none. Null, as all
            that follows from it, where no sampled task fits.
        tokens: Tokens of all pairs.
        tokens_generated: Tokens of all reference outputs, if they are generated.
        reusable_share: Share of the tokens that an unlimited prefix cache supplies, in [0, 1].
        rate: The rate that time is reckoned with; none if there is none.
        seconds: Time of scoring, the engine's start not included.
        cost: Price of that time, in the unit of the given price.
    """

    pairs: int
    references: int
    unit: str
    sampled_tasks: int
    unfit_tasks: int
    tokens_per_pair: float | None
    tokens: int | None
    tokens_generated: int | None
    reusable_share: float | None
    rate: Rate | None = None
    seconds: float | None = None
    cost: float | None = None


class TaskSample:
    """A seeded, even sample of tasks out of a stream of unknown length.

    Args:
        size: Tasks kept, at most.
        config: Only the instances that this design samples are kept.
    """

    def __init__(self, config: ScoreConfig, size: int = SAMPLE_TASKS) -> None:
        self._config = config
        self._size = size
        self._rng = random.Random(f"estimate/{config.seed}")
        self._seen = 0
        self.tasks: list[Task] = []

    def add(self, task: Task) -> None:
        self._seen += 1
        if len(self.tasks) < self._size:
            self.tasks.append(self.sampled(task))
            return
        place = self._rng.randrange(self._seen)
        if place < self._size:
            self.tasks[place] = self.sampled(task)

    def sampled(self, task: Task) -> Task:
        """The task with no other instances than those that the design samples."""
        config = self._config
        return task.with_instances(task.sample_instances(config.n_instances, config.seed))


def estimate(
    n_measured: int,
    sample: Sequence[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    *,
    rate: Rate | None = None,
    price_per_hour: float | None = None,
) -> Estimate:
    """What scoring takes.

    Args:
        n_measured: Instances that the design samples, over all tasks of the pool.
        builder: Lays the prompts out; over a `WordTokenizer`, words are taken for tokens.
        price_per_hour: What an hour of it costs.
    """
    in_words = isinstance(builder.tokenizer, WordTokenizer)
    factor = TOKENS_PER_WORD if in_words else 1.0
    pairs = submitted = reusable = generated = references = unfit = 0
    for task in sample:
        try:
            plan = plan_task(task, config, builder)
            outputs = [_output(one.outputs, config, builder, factor) for one in plan.instances]
            laid_out = plan_pairs(plan, outputs, config, builder)
        except InputError:
            unfit += 1
            continue
        sequences = [pair.prompt + pair.output for pair in laid_out]
        pairs += len(sequences)
        submitted += sum(map(len, sequences))
        reusable += reusable_tokens(sequences)
        generated += sum(map(len, outputs))
        references += len(outputs)
    per_instance = pairs / references if references else config.n_perturbations + 1
    n_pairs = round(n_measured * per_instance)
    per_pair = factor * submitted / pairs if pairs else None
    per_output = factor * generated / references if references else None
    generates = config.reference == "generated"
    seconds = n_pairs / rate.pairs_per_second if rate else None
    priced = seconds is not None and price_per_hour is not None
    return Estimate(
        pairs=n_pairs,
        references=n_measured if generates else 0,
        unit="words" if in_words else "tokens",
        sampled_tasks=len(sample),
        unfit_tasks=unfit,
        tokens_per_pair=per_pair,
        tokens=None if per_pair is None else round(per_pair * n_pairs),
        tokens_generated=_generated(per_output, n_measured) if generates else 0,
        reusable_share=reusable / submitted if submitted else None,
        rate=rate,
        seconds=seconds,
        cost=(seconds or 0.0) / 3600 * (price_per_hour or 0.0) if priced else None,
    )


def _generated(per_output: float | None, n_measured: int) -> int | None:
    return None if per_output is None else round(per_output * n_measured)


def _output(
    gold: tuple[str, ...], config: ScoreConfig, builder: PromptBuilder, factor: float
) -> tuple[int, ...]:
    """As many token ids as the reference output is taken to have."""
    longest = max(1, round(config.max_output_tokens / factor))
    if not gold:
        return (builder.end,) * longest
    ids = builder.completion(gold[0])
    return ids if config.reference == "gold" else ids[:longest]


def measure_rate(engine: Engine, sample: Sequence[Task], config: ScoreConfig) -> Rate:
    """The rate at which a running engine scores some tasks, after one of them to warm up.

    Raises:
        InputError: If the engine finds fault with a task, there is none, or none has a pair to
            score.
        EngineError: If the engine fails.
    """
    if not sample:
        raise InputError("there is no task to measure the engine with", field="engine")
    for _ in engine.score(sample[:1], config):
        pass
    # The first task's prefixes are now in the cache, so it is measured only if it is alone.
    measured = sample[1:] or sample
    started = time.monotonic()
    scores = [score for score in engine.score(measured, config) if score.usage.pairs]
    # Those of original prompts too, which come with the references that are generated.
    pairs = sum(len(score.pairs) for score in scores)
    seconds = max(time.monotonic() - started, 1e-9)
    if not pairs:
        raise InputError("no perturbation changes a prompt of the sampled tasks", field="engine")
    origin = f"measured on {pairs} pairs of {len(measured)} tasks in {seconds:.1f} s"
    return Rate(pairs_per_second=pairs / seconds, origin=origin)


def time_in_words(seconds: float) -> str:
    """In seconds, minutes or hours, whichever a person would say."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
