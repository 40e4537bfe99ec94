"""Peers that do not run here, counted: the arithmetic that each would do on the same pairs.

    python -m benchmarks.counted [--tasks 3] [--instances 10] [--perturbations 10]

On the pairs of `benchmarks.scoring`, in the order of the pair plan. SGLang's `/generate` with
`logprob_start_len` at the prompt's last token matches prefixes to the token, never behind that
token, and has logits from there on; requests of one prefill batch do not share with one another, as
its tree learns of them when the batch is over. In its best order whatever is shared is there
already. vLLM's scoring of fixed ids (`prompt_logprob_token_ids`, V2 runner, which needs a GPU)
matches whole blocks, also within a step; where the match passes the first row its scores are
dropped and the pair is computed again, whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from benchmarks.common.floor import model_sizes
from benchmarks.common.pairs import (
    BenchmarkPairs,
    all_pairs,
    greedy_references,
    prompt_builder,
    sample_tasks,
)
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import keep_for
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import with_shared_prefixes
from engine.weights.models import resolve_model

CHUNKS = (2048, 8192, 16384)
"""Tokens of a prefill batch of SGLang; which is its default depends on the GPU's memory."""

BLOCK = 16
"""Tokens of a block of vLLM's cache on CUDA."""


@dataclass(frozen=True)
class Work:
    """What a peer computes.

    Attributes:
        tokens: Tokens that pass through the layers.
        rows: Rows that are projected onto the vocabulary.
        again: Pairs computed twice.
    """

    tokens: int
    rows: int
    again: int = 0


class PrefixTree:
    """What a cache of single tokens holds, for prefixes up to a length."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def add(self, tokens: Iterable[int]) -> None:
        """Remembers a sequence and all its prefixes."""
        self._known.update(_prefixes(tokens))

    def longest(self, tokens: Iterable[int]) -> int:
        """Length of the longest prefix of a sequence that is known."""
        return sum(1 for _ in takewhile(self._known.__contains__, _prefixes(tokens)))


def _prefixes(tokens: Iterable[int]) -> Iterable[int]:
    before = 0
    for token in tokens:
        before = hash((before, token))
        yield before


def best_order(pairs: BenchmarkPairs, *, last: bool) -> Work:
    """Every prefix is known when it is asked for, up to the row that predicts the output.

    Args:
        last: Whether the output's last token is submitted too, with a row behind it.
    """
    asked = sorted(
        ((*prompt, *(output if last else output[:-1])), len(prompt) - 1)
        for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True)
    )
    shared = with_shared_prefixes(sequence for sequence, _ in asked)
    tokens = sum(
        len(sequence) - min(known, start)
        for (sequence, known), (_, start) in zip(shared, asked, strict=True)
    )
    return Work(tokens, sum(len(output) + last for output in pairs.outputs))


def sglang_default(pairs: BenchmarkPairs, chunk: int) -> Work:
    """First come, first served: prefill batches of so many tokens."""
    tree, tokens, room = PrefixTree(), 0, chunk
    batch: list[list[int]] = []
    for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True):
        needed = len(prompt) + len(output) - min(tree.longest(prompt), len(prompt) - 1)
        if needed > room:  # a request that is cut is continued in the next batch
            for sequence in batch:
                tree.add(sequence)
            batch, room = [], chunk
            needed = len(prompt) + len(output) - min(tree.longest(prompt), len(prompt) - 1)
        batch.append(prompt + output)
        tokens, room = tokens + needed, room - needed
    return Work(tokens, sum(len(output) + 1 for output in pairs.outputs))


def vllm_fixed_ids(pairs: BenchmarkPairs) -> Work:
    """Whole blocks, also within a step; pairs whose first row is covered a second time."""
    blocks, tokens, again = PrefixTree(), 0, 0
    for prompt, output in zip(pairs.prompts, pairs.outputs, strict=True):
        sequence = prompt + output
        ends = range(BLOCK, len(sequence) + 1, BLOCK)
        whole = [hash(tuple(sequence[end - BLOCK : end])) for end in ends]
        hit = min(blocks.longest(whole), (len(sequence) - 1) // BLOCK) * BLOCK
        blocks.add(whole)
        tokens += len(sequence) - hit
        if hit > len(prompt) - 1:
            tokens, again = tokens + len(sequence), again + 1
    return Work(tokens, sum(map(len, pairs.outputs)), again)


def show(pairs: BenchmarkPairs, result: ResultFile) -> dict[str, float]:
    """The table, and its figures."""
    weights, projection = model_sizes(pairs.model)
    ways = {
        "no sharing, all rows": Work(
            (n := sum(map(len, pairs.prompts)) + sum(map(len, pairs.outputs))), n
        ),
        "vLLM, fixed ids": vllm_fixed_ids(pairs),
        **{
            f"SGLang, as it comes, batches of {chunk}": sglang_default(pairs, chunk)
            for chunk in CHUNKS
        },
        "SGLang, best order": best_order(pairs, last=True),
        "jostle": best_order(pairs, last=False),
    }
    flops = {
        name: 2.0 * work.tokens * weights + 2.0 * work.rows * projection
        for name, work in ways.items()
    }
    result.table(
        f"{len(pairs.prompts)} pairs, counted and not run: tokens and rows each way computes",
        ["way", "tokens", "rows of logits", "pairs twice", "x jostle's arithmetic"],
        [
            [
                name,
                f"{work.tokens:,}",
                f"{work.rows:,}",
                str(work.again),
                f"{flops[name] / flops['jostle']:.2f}",
            ]
            for name, work in ways.items()
        ],
    )
    return {f"arithmetic of {name}": each / flops["jostle"] for name, each in flops.items()}


def main() -> None:
    """Counts, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--perturbations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the references")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    if chosen.keep:
        settings = ("model", "instances", "perturbations", "seed")
        keep_for(chosen.keep, {name: getattr(chosen, name) for name in settings})
    config = ScoreConfig(
        n_instances=chosen.instances,
        n_perturbations=chosen.perturbations,
        max_output_tokens=32,
        seed=chosen.seed,
    )
    model = str(resolve_model(chosen.model))
    builder = prompt_builder(model, config)
    tasks = sample_tasks(chosen.tasks, config, chosen.seed, builder)
    outputs = greedy_references(tasks, config, builder, model, chosen.keep)
    result = ResultFile("counted", chosen.results)
    result.print(f"tasks: {', '.join(task.id for task in tasks)}")
    result.save(show(all_pairs(tasks, outputs, config, builder, model), result), chosen)


if __name__ == "__main__":
    main()
