"""Pairs per second of exact likelihood scoring: the peers' ways and jostle on the same pairs.

    python -m benchmarks.scoring [--tasks 3] [--instances 10] [--perturbations 10] [--turns 2]
                                 [--eager]

The paper's setting: definition and two examples, words dropped from definition and example inputs
at 0.2. The ways on vLLM take turns, and the least disturbed turn of each counts; the loop over
transformers is long enough to run once. vLLM compiles the model for all of them, as it does by
default and for `jostle serve`, unless `--eager` forbids it for all. Real tasks from
../shared/data/niv2 when present, else the bundled pool. The harness needs
`pip install --no-deps -r requirements/benchmarks.txt`.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from benchmarks.common.floor import (
    Rates,
    attention_flops,
    floor_flops,
    read_rates,
    sequences_of,
    whole_flops,
)
from benchmarks.common.pairs import (
    MAX_MODEL_LEN,
    BenchmarkPairs,
    all_pairs,
    prompt_builder,
    sample_tasks,
)
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import in_turns
from benchmarks.counted import show as show_counted
from benchmarks.peers.contenders import Peer
from benchmarks.peers.ways import Answer
from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.process.settings import (
    OUTPUT_ROWS_VARIABLE,
    SHARED_TAILS_VARIABLE,
)
from engine.protocol.api import Usage
from engine.protocol.completions import TokenPair
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import reusable_tokens
from engine.weights.models import resolve_model

PEER_SECONDS = 3600.0


class Row(BaseModel):
    """A way and what it measured on the same pairs.

    Attributes:
        name: The way.
        answer: Its seconds and results.
        usage: What the engine counted.
        rates: Rates of matrix products right before and right after, where they were read.
    """

    name: str
    answer: Answer
    usage: Usage | None = None
    rates: tuple[Rates, ...] = ()

    @property
    def rate(self) -> float:
        """The better of the two readings of `Rates.best`."""
        return max(each.best for each in self.rates)

    @property
    def sustained(self) -> float:
        """The mean of the two readings of `Rates.sustained`."""
        return sum(each.sustained or math.nan for each in self.rates) / len(self.rates)


class Scoring:
    """One run of the benchmark."""

    def __init__(
        self, model: str, config: ScoreConfig, n_tasks: int, seed: int, *, eager: bool = True
    ) -> None:
        self.model = str(resolve_model(model))
        self.config = config
        self.eager = eager
        self.builder = prompt_builder(self.model, config)
        self.tasks = sample_tasks(n_tasks, config, seed, self.builder)
        self.folder = Path(tempfile.mkdtemp(prefix="jostle-benchmark-"))

    def server(self, *, output_rows: bool = True, shared_tails: bool = True) -> EngineProcess:
        """A fresh server: no way may find the cache warm."""
        os.environ[OUTPUT_ROWS_VARIABLE] = "1" if output_rows else "0"
        os.environ[SHARED_TAILS_VARIABLE] = "1" if shared_tails else "0"
        process = EngineProcess.start(
            self.model,
            weights_root=None,
            log_file=self.folder / "engine.log",
            long_running=not self.eager,
            extra_args=[f"--max-model-len={MAX_MODEL_LEN}"],
        )
        process.wait_ready()
        return process

    def whole_requests(self) -> tuple[BenchmarkPairs, float, Usage]:
        """Scores the tasks as a user would; the pairs, the seconds and the usage."""
        with self.server() as server, EngineClient(server.url) as client:
            warm_up(client)
            started = time.perf_counter()
            scores = list(client.score(self.tasks, self.config))
            seconds = time.perf_counter() - started
        outputs = [[reference.token_ids for reference in score.references] for score in scores]
        pairs = all_pairs(self.tasks, outputs, self.config, self.builder, self.model)
        return pairs, seconds, Usage.total(score.usage for score in scores)

    def jostle(
        self,
        name: str,
        pairs: BenchmarkPairs,
        *,
        output_rows: bool = True,
        shared_tails: bool = True,
    ) -> Row:
        """The given pairs through the route for fixed completions."""
        body = pairs.token_pairs
        server = self.server(output_rows=output_rows, shared_tails=shared_tails)
        with server, EngineClient(server.url) as client:
            warm_up(client)
            started = time.perf_counter()
            response = client.completion_logprobs(body)
            seconds = time.perf_counter() - started
        logprobs = [result.logprob for result in response.results]
        return Row(
            name=name,
            answer=Answer(seconds=seconds, logprobs=logprobs),
            usage=response.usage,
        )

    def with_rates(self, take: Callable[[], Row]) -> Row:
        """A turn between two readings of the machine's rates, which change from hour to hour."""
        before = read_rates(self.model)
        row = take()
        return row.model_copy(update={"rates": (before, read_rates(self.model))})

    def peer(self, name: str, way: str, pairs: BenchmarkPairs) -> Row:
        """The given pairs through a peer, in a process of its own with the cores and KV space of
        ours.
        """
        peer = Peer(name, way, self.folder, {"enforce_eager": self.eager})
        peer.start(pairs)
        try:
            return Row(name=name, answer=peer.measure(PEER_SECONDS))
        finally:
            peer.stop()


def warm_up(client: EngineClient) -> None:
    """A few pairs that share nothing with the measured ones."""
    client.completion_logprobs(
        [
            TokenPair(prompt_token_ids=(7 + index,) * 40, completion_token_ids=(9, 11, 13))
            for index in range(4)
        ]
    )


def largest_difference(rows: list[Row], pairs: BenchmarkPairs) -> dict[str, float]:
    """Largest difference in probability from the first row, by name."""
    lengths = [len(output) for output in pairs.outputs]
    return {
        row.name: max(
            abs(math.exp(one / n) - math.exp(other / n))
            for one, other, n in zip(
                rows[0].answer.logprobs, row.answer.logprobs, lengths, strict=True
            )
        )
        for row in rows
    }


def show(
    rows: list[Row], pairs: BenchmarkPairs, floor_s: float, result: ResultFile
) -> dict[str, float]:
    """The table, and its figures."""
    differences = largest_difference(rows, pairs)
    rates = {row.name: len(pairs.prompts) / row.answer.seconds for row in rows}
    peers = [rates.get(rows[0].name), rates.get(HARNESS)]
    result.table(
        f"{len(pairs.prompts)} pairs, seconds and ratios of one run",
        ["way", "seconds", "pairs/s", "x transformers", "x harness", "x floor", "max dp"],
        [
            [
                row.name,
                f"{row.answer.seconds:.1f}",
                f"{rates[row.name]:.2f}",
                *(f"{rates[row.name] / peer:.2f}" if peer else "" for peer in peers),
                f"{row.answer.seconds / floor_s:.2f}",
                f"{differences[row.name]:.1e}",
            ]
            for row in rows
        ],
    )
    return {f"pairs/s of {name}": rate for name, rate in rates.items()}


TRANSFORMERS = "transformers, padded loop, all rows"
HARNESS = "lm-evaluation-harness on vLLM"
STOCK_ROWS = "jostle, logits for all computed rows"
WHOLE_BLOCKS = "jostle, only whole blocks shared"
JOSTLE = "jostle"


def take_turns(
    run: Scoring, pairs: BenchmarkPairs, n_turns: int, *, with_harness: bool
) -> dict[str, list[Row]]:
    """The turns of each way on vLLM."""
    ways: dict[str, Callable[[], Row]] = {
        STOCK_ROWS: lambda: run.jostle(STOCK_ROWS, pairs, output_rows=False),
        WHOLE_BLOCKS: lambda: run.jostle(WHOLE_BLOCKS, pairs, shared_tails=False),
        JOSTLE: lambda: run.with_rates(lambda: run.jostle(JOSTLE, pairs)),
    }
    if with_harness:
        ways = {HARNESS: lambda: run.peer(HARNESS, "harness", pairs)} | ways
    return in_turns(Row, ways, n_turns)


def explain(rows: list[Row], turns: list[Row], pairs: BenchmarkPairs, result: ResultFile) -> None:
    """Where jostle's seconds come from: what was reused, the floor, what each part is worth.

    Args:
        rows: The ways; jostle without output rows, with whole blocks and as it is come last.
        turns: All turns of jostle as it is.
        pairs: What was scored.
        result: Where it is printed.
    """
    fixed = rows[-1].usage or Usage()
    reusable = reusable_tokens(sequences_of(pairs))
    result.print(
        f"prefix reuse: {fixed.tokens_reused} of {reusable} reusable tokens "
        f"({fixed.tokens_reused / reusable:.1%}); {fixed.tokens_submitted} submitted; "
        f"{fixed.pairs_rescored} pairs scored twice"
    )
    floor, rate = floor_flops(pairs), rows[-1].rate
    result.print(
        f"floor: {floor / rate:.1f} s at {rate / 1e9:.0f} GFLOP/s of matrix products, read beside "
        f"jostle's fastest turn; attention, which it leaves out, adds "
        f"{attention_flops(pairs) / floor:.0%} to its arithmetic"
    )
    for turn in turns:
        result.print(
            f"jostle's turn of {turn.answer.seconds:.1f} s: x"
            f"{turn.answer.seconds * turn.rate / floor:.2f} the floor at {turn.rate / 1e9:.0f} "
            f"GFLOP/s, the better reading of two around it; x"
            f"{turn.answer.seconds * turn.sustained / floor:.2f} at {turn.sustained / 1e9:.0f}, at "
            f"which all products of the model run one after another"
        )
    for what, without in (
        ("logits for output rows only", rows[-3]),
        ("prefixes shared to their last token", rows[-2]),
    ):
        worth = without.answer.seconds / rows[-1].answer.seconds
        change = largest_difference([without, rows[-1]], pairs)[JOSTLE]
        result.print(
            f"{what}: worth x{worth:.2f}, no probability changes by more than {change:.1e}"
        )
    times = whole_flops(pairs) / floor_flops(pairs)
    result.print(
        f"whole sequences with logits for all rows are {times:.2f} times the floor's arithmetic: "
        f"what sharing and output rows can give at an equal rate"
    )


def main() -> None:
    """Runs all ways and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--perturbations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    parser.add_argument("--without", nargs="*", default=[], choices=["transformers", "harness"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    result = ResultFile("scoring", chosen.results)
    config = ScoreConfig(
        n_instances=chosen.instances,
        n_perturbations=chosen.perturbations,
        max_output_tokens=32,
        seed=chosen.seed,
    )
    run = Scoring(chosen.model, config, chosen.tasks, chosen.seed, eager=chosen.eager)
    result.print(f"tasks: {', '.join(task.id for task in run.tasks)}")
    pairs, whole_seconds, usage = run.whole_requests()
    turns = take_turns(run, pairs, chosen.turns, with_harness="harness" not in chosen.without)
    rows = [min(taken, key=lambda row: row.answer.seconds) for taken in turns.values()]
    if "transformers" not in chosen.without:
        rows.insert(0, run.peer(TRANSFORMERS, "transformers", pairs))
    figures = show(rows, pairs, floor_flops(pairs) / rows[-1].rate, result)
    for name, taken in turns.items():
        seconds = ", ".join(f"{row.answer.seconds:.1f}" for row in taken)
        result.print(f"turns of {name}: {seconds} s")
    explain(rows, turns[JOSTLE], pairs, result)
    result.print(
        f"whole requests, references generated too: {whole_seconds:.1f} s, "
        f"{len(pairs.prompts) / whole_seconds:.2f} pairs/s, reuse {usage.reuse_share:.1%} of "
        f"reusable tokens"
    )
    show_counted(pairs, result)
    result.save(figures, chosen)


if __name__ == "__main__":
    main()
