"""Samples per second under perturbed prompts: the peers' ways and jostle on the same prompts.

    python -m benchmarks.sampling [--tasks 4] [--instances 5] [--perturbations 5] [--samples 5]
                                  [--turns 2] [--eager] [--ways WAY...] [--keep FOLDER]

The paper's prompts: definition and two examples, words dropped at 0.2, at most 32 tokens, at
temperature 1. jostle answers whole requests for the measure `output_disagreement`: it generates the
reference outputs and scores all pairs as well, whose seconds count; the peers sample and do nothing
else. All on vLLM are set alike, take turns, and the least disturbed turn of each counts;
transformers has two minutes, once, for as many batches of 8 prompts, drawn from all, as it can
begin. With `--keep` turns that are in the folder are not taken again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from benchmarks.common.pairs import (
    MAX_MODEL_LEN,
    all_pairs,
    greedy_references,
    prompt_builder,
    sample_tasks,
)
from benchmarks.common.result_file import RESULTS, ResultFile
from benchmarks.common.turns import in_turns, keep_for
from benchmarks.peers.contenders import Peer, Server
from benchmarks.peers.sampling_ways import SamplingPlan
from benchmarks.scoring import PEER_SECONDS, warm_up
from engine.process.settings import FILLED_BLOCKS_VARIABLE
from engine.protocol.api import TaskScore, Usage
from engine.protocol.score_config import SamplingConfig, ScoreConfig
from engine.questions.output_question import sample_seed
from engine.weights.models import resolve_model

TRANSFORMERS = "transformers, generate"
OFFLINE = "vLLM offline, n = m"
NGRAM = "vLLM offline, n = m, n-gram drafts"
UNFILLED = "jostle, blocks not filled"
JOSTLE = "jostle"
SCORING = "jostle, pairs alone"
USUAL = ("jostle", "offline", "transformers")


class Turn(BaseModel):
    """What a way did once.

    Attributes:
        seconds: Of all samples.
        lengths: Tokens of each.
        as_reference: How many are the reference of their instance.
        usage: What our engine counted.
    """

    seconds: float
    lengths: list[int] = []
    as_reference: int = 0
    usage: Usage | None = None


class Sampling:
    """One run of the benchmark."""

    def __init__(
        self,
        model: str,
        config: ScoreConfig,
        n_tasks: int,
        *,
        eager: bool,
        folder: Path,
        n_sequences: int,
    ) -> None:
        self.model = str(resolve_model(model))
        self.config = config
        self.eager = eager
        self.folder = folder
        self.n_sequences = n_sequences
        self.builder = prompt_builder(self.model, config)
        self.tasks = sample_tasks(n_tasks, config, config.seed, self.builder)
        self.plan: SamplingPlan | None = None

    def jostle(self, name: str, config: ScoreConfig, filled: str = "1") -> Turn:
        """Whole requests to a fresh server."""
        flags = (f"--max-model-len={MAX_MODEL_LEN}", f"--max-num-seqs={self.n_sequences}")
        environment = {FILLED_BLOCKS_VARIABLE: filled}
        server = Server(name, self.model, self.folder, flags, environment, eager=self.eager)
        server.start()
        try:
            client = server.wait()
            warm_up(client)
            started = time.perf_counter()
            scores = list(client.score(self.tasks, config))
            seconds = time.perf_counter() - started
        finally:
            server.stop()
        for score in scores:
            references = [one.token_ids for one in score.references]
            (self.folder / f"{score.task_id}.references").write_text(json.dumps(references))
        return _turn_of(scores, seconds)

    def peer(self, name: str, way: str, **vllm: object) -> Turn:
        """The same prompts through a peer."""
        plan = self._plan()
        arguments = {"enforce_eager": self.eager, "max_num_seqs": self.n_sequences, **vllm}
        peer = Peer(name, way, self.folder, arguments, module="benchmarks.peers.sampling_ways")
        peer.start(plan)
        try:
            answer = peer.measure(PEER_SECONDS)
        finally:
            peer.stop()
        of_prompts = zip(answer.samples, plan.outputs, strict=False)
        return Turn(
            seconds=answer.seconds,
            lengths=[len(one) for some in answer.samples for one in some],
            as_reference=sum(some.count(reference) for some, reference in of_prompts),
        )

    def _plan(self) -> SamplingPlan:
        """All prompts, with the references of ours; before those are known, of transformers'."""
        if self.plan is None:
            config = self.config
            references = greedy_references(
                self.tasks, config, self.builder, self.model, self.folder
            )
            pairs = all_pairs(self.tasks, references, config, self.builder, self.model)
            self.plan = SamplingPlan(
                **pairs.model_dump(),
                n_samples=config.sampling.n_samples,
                max_tokens=config.max_output_tokens,
                temperature=config.sampling.temperature,
                end=self.builder.end,
                seeds=[
                    sample_seed(config.seed, "", "", number, 0) % 2**31
                    for number in range(len(pairs.prompts))
                ],
            )
        return self.plan


def _turn_of(scores: list[TaskScore], seconds: float) -> Turn:
    lengths, as_reference = [], 0
    for score in scores:
        references = {one.instance_id: one for one in score.references}
        for row in score.answers["output_disagreement"].rows if score.answers else ():
            reference = references[str(row["instance_id"])]
            lengths.append(row["n_tokens"])
            same = (row["output"], row["n_tokens"]) == (reference.text, len(reference.token_ids))
            as_reference += same
    usage = sum((score.usage for score in scores), Usage())
    return Turn(seconds=seconds, lengths=lengths, as_reference=as_reference, usage=usage)


def show(turns: dict[str, list[Turn]], result: ResultFile) -> dict[str, float]:
    """The table, and its figures."""
    best = {name: min(taken, key=lambda turn: turn.seconds) for name, taken in turns.items()}
    rates = {name: len(turn.lengths) / turn.seconds for name, turn in best.items()}
    others = [name for name in (TRANSFORMERS, OFFLINE) if name in rates]
    rows = []
    for name, turn in best.items():
        cells = [name, f"{turn.seconds:.1f}"]
        if n := len(turn.lengths):
            cells.append(f"{rates[name]:.2f}")
            cells += [f"{rates[name] / rates[other]:.2f}" for other in others]
            cells += [f"{fmean(turn.lengths):.2f}", f"{turn.as_reference / n:.3f}"]
        rows.append(cells)
    n_samples = max(len(turn.lengths) for turn in best.values())
    result.table(
        f"{n_samples} samples, seconds and ratios of one run",
        [
            "way",
            "seconds",
            "samples/s",
            *(f"x {other.partition(',')[0]}" for other in others),
            "tokens",
            "as reference",
        ],
        rows,
    )
    for name, turn in best.items():
        if 0 < len(turn.lengths) < n_samples:
            result.print(f"{name}: {len(turn.lengths)} of them")
    for name, taken in turns.items():
        result.print(f"turns of {name}: {', '.join(f'{turn.seconds:.1f}' for turn in taken)} s")
    for name, turn in best.items():
        if turn.usage:
            usage = turn.usage
            result.print(
                f"{name}: {usage.pairs} pairs scored; prompt tokens submitted "
                f"{usage.tokens_submitted}, computed {usage.tokens_computed}; generated "
                f"{usage.tokens_generated} for references, {usage.tokens_sampled} for samples"
            )
    return {f"samples/s of {name}": rate for name, rate in rates.items() if rate}


def result_name(chosen: argparse.Namespace) -> str:
    """Other ways than the usual ones, and compiled models, have results of their own."""
    others = [way for way in chosen.ways if way not in USUAL]
    some = list(chosen.ways) if set(chosen.ways) < set(USUAL) else others
    return "_".join(["sampling", *some]) + "_compiled" * (not chosen.eager)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--perturbations", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sequences", type=int, default=64, help="that vLLM runs at once")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    parser.add_argument("--ways", nargs="*", default=USUAL)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def main() -> None:
    """Runs all ways and prints the table."""
    chosen = parser().parse_args()
    config = ScoreConfig(
        n_instances=chosen.instances,
        n_perturbations=chosen.perturbations,
        max_output_tokens=32,
        seed=chosen.seed,
        measure="output_disagreement",
        sampling=SamplingConfig(n_samples=chosen.samples),
    )
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="jostle-benchmark-"))
    others = {"keep", "results", "ways", "turns"}
    keep_for(folder, {name: each for name, each in vars(chosen).items() if name not in others})
    run = Sampling(
        chosen.model,
        config,
        chosen.tasks,
        eager=chosen.eager,
        folder=folder,
        n_sequences=chosen.sequences,
    )
    pairs_alone = config.model_copy(update={"measure": "prompt_uncertainty"})
    drafts = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
    every: dict[str, tuple[str, Callable[[], Turn]]] = {
        "jostle": (JOSTLE, lambda: run.jostle(JOSTLE, config)),
        "unfilled": (UNFILLED, lambda: run.jostle(UNFILLED, config, filled="0")),
        "pairs": (SCORING, lambda: run.jostle(SCORING, pairs_alone)),
        "offline": (OFFLINE, lambda: run.peer(OFFLINE, "vllm")),
        "ngram": (NGRAM, lambda: run.peer(NGRAM, "vllm", speculative_config=drafts)),
        "transformers": (TRANSFORMERS, lambda: run.peer(TRANSFORMERS, "transformers")),
    }
    ways = dict(every[each] for each in every if each in chosen.ways)
    turns = in_turns(Turn, ways, chosen.turns, chosen.keep, once=TRANSFORMERS)
    result = ResultFile(result_name(chosen), chosen.results)
    result.print(f"tasks: {', '.join(task.id for task in run.tasks)}")
    result.save(show(turns, result), chosen)


if __name__ == "__main__":
    main()
