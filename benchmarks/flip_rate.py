"""The flip rate read off scored pairs, against answers that are really generated.

    python -m benchmarks.flip_rate [--padded]

Real tasks in float32, on vLLM or in padded batches of transformers. One way scores them, as for
prompt uncertainty; the other generates the greedy answer under every perturbed prompt, with vLLM's
own prefix cache, and compares. Neither reads what the other has cached. The references, which both
need, are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.common.own_engine import own_engine
from benchmarks.common.pairs import sample_tasks
from benchmarks.common.result_file import ResultFile
from benchmarks.noise_floor import short_tasks
from benchmarks.peers.padded_backend import PaddedBackend, rounded
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Generated, Scored
from engine.questions.pair_plan import Pair, plan_pairs, plan_task
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from engine.weights.models import BUNDLED_MODEL, resolve_model

CONTEXT = 1100
TIE = 1e-3  # nats


@dataclass
class Way:
    """What one way found and what it cost.

    Attributes:
        answers: Of each pair, in their order.
        tokens: Tokens computed, those generated included.
    """

    answers: list[Any]
    tokens: int
    seconds: float


async def all_of(calls: list[Any], most: int) -> tuple[list[Any], float]:
    """The results of all calls, of which so many run at once; and the time it took."""
    slots = asyncio.Semaphore(most)

    async def one(call: Any) -> Any:
        async with slots:
            return await call

    began = time.monotonic()
    return list(await asyncio.gather(*map(one, calls))), time.monotonic() - began


async def scored(backend: Any, pairs: list[Pair]) -> Way:
    """By reading: the answer is another one where a token is not the likeliest."""
    calls = [backend.score(each.prompt, each.output, each.name, 0) for each in pairs]
    found, seconds = await all_of(calls, backend.max_in_flight)
    return Way(found, sum(each.n_submitted - each.n_reused for each in found), seconds)


async def generated(backend: Any, pairs: list[Pair], config: ScoreConfig, end: int) -> Way:
    """By generating."""
    calls = [
        backend.generate(each.prompt, config.max_output_tokens, end, each.name, 0) for each in pairs
    ]
    found, seconds = await all_of(calls, backend.max_in_flight)
    tokens = sum(each.n_submitted - each.n_reused + len(each.token_ids) for each in found)
    return Way(found, tokens, seconds)


def is_tie(pair: Pair, read: Scored, answer: Generated) -> bool:
    """Whether the two answers part at two tokens that are equally likely."""
    for position, (one, other) in enumerate(zip(pair.output, answer.token_ids, strict=False)):
        if one != other:
            return abs(read.token_logprobs[position] - answer.token_logprobs[position]) < TIE
    return False


def table(
    scores: list[TaskScore], pairs: list[Pair], read: Way, made: Way, k: int, n: int
) -> list[str]:
    """All that is reported."""
    flips: dict[str, list[tuple[bool, bool]]] = {}
    ties = 0
    for pair, one, two in zip(pairs, read.answers, made.answers, strict=True):
        by_reading, by_answer = not all(one.is_greedy), two.token_ids != pair.output
        if by_reading != by_answer and is_tie(pair, one, two):
            ties += 1
            by_reading = by_answer
        flips.setdefault(pair.task_id, []).append((by_reading, by_answer))
    rates = {
        name: [sum(each) / len(each) for each in zip(*found, strict=True)]
        for name, found in flips.items()
    }
    other = sum(one != two for found in flips.values() for one, two in found)
    off = max(abs(one - two) for one, two in rates.values())
    by_answers = [two for _, two in rates.values()]
    told = {each.task_id: each.flip_rate for each in scores}
    in_scores = max(abs((told[name] or 0.0) - one) for name, (one, _) in rates.items())
    lines = [
        f"{len(rates)} real tasks, n = {n}, k = {k}, {len(pairs)} perturbed pairs, float32",
        f"flip rate: mean {sum(by_answers) / len(rates):.3f}, from {min(by_answers):.2f} to "
        f"{max(by_answers):.2f}",
        f"pairs on which the two ways differ: {other}, and {ties} ties within {TIE} nats",
        f"largest difference of a task's flip rate: {off:.3f}; of the one in its score: "
        f"{in_scores:.3f}",
        "",
        f"{'':<44}{'tokens':>9}{'ratio':>7}{'seconds':>9}{'ratio':>7}",
    ]
    for name, tokens, seconds in (
        ("generating under every perturbed prompt", made.tokens, made.seconds),
        ("scoring the pairs, for nothing else", read.tokens, read.seconds),
        ("on top of prompt uncertainty", 0, 0.0),
    ):
        lines.append(
            f"{name:<44}{tokens:>9,}{tokens / made.tokens:>7.2f}{seconds:>9.1f}"
            f"{seconds / made.seconds:>7.2f}"
        )
    return lines


async def measure(tasks: list[Task], config: ScoreConfig, backends: Sequence[Any]) -> list[str]:
    """Both ways, each on a backend of its own; the first one is for the references."""
    first, second, third = backends
    builder = PromptBuilder(first.tokenizer, config.prompt, CONTEXT)
    scorer = TaskScorer(first, config, "base")
    scores = [each async for each in scorer.score(tasks) if isinstance(each, TaskScore)]
    pairs = [
        pair
        for task, score in zip(tasks, scores, strict=True)
        for pair in plan_pairs(
            plan_task(task, config, builder),
            [reference.token_ids for reference in score.references],
            config,
            builder,
            originals=False,
        )
    ]
    made = await generated(second, pairs, config, builder.end)
    read = await scored(third, pairs)
    return table(scores, pairs, read, made, config.n_perturbations, config.n_instances)


async def on_vllm(tasks: list[Task], config: ScoreConfig, folder: str) -> list[str]:
    """On one engine, with a prefix cache for each way."""
    from engine.server.vllm.vllm_backend import VllmBackend

    with own_engine(folder, "float32", CONTEXT) as client:
        return await measure(tasks, config, [VllmBackend(client, salt) for salt in "012"])


def main() -> None:
    """Prints the table and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument(
        "--padded",
        action="store_true",
        help="transformers, no prefix cache, no examples in prompts",
    )
    args = parser.parse_args()
    folder = str(resolve_model(BUNDLED_MODEL))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if args.padded:
        prompt = PromptConfig(n_positive_examples=0)
        config = ScoreConfig(n_instances=2, n_perturbations=2, max_output_tokens=8, prompt=prompt)
        tasks = short_tasks(args.tasks, config, PromptBuilder(tokenizer, prompt, 1 << 20))
        model = rounded(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), "float32")
        backend = PaddedBackend(model, tokenizer, CONTEXT, "float32", "sdpa")
        lines = ["transformers, no prefix cache; prompts of at most 300 tokens, without examples"]
        lines += asyncio.run(measure(tasks, config, [backend] * 3))
    else:
        config = ScoreConfig(n_instances=3, n_perturbations=3, max_output_tokens=16)
        builder = PromptBuilder(tokenizer, config.prompt, CONTEXT)
        tasks = sample_tasks(args.tasks, config, 0, builder)
        lines = asyncio.run(on_vllm(tasks, config, folder))
    result = ResultFile("flip_rate")
    result.print("\n".join(lines))
    result.save({}, args)


if __name__ == "__main__":
    main()
