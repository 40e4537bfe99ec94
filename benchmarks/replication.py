"""The shoot-out: ways to choose tasks, several seeds and rounds, from the base model each round.

    python -m benchmarks.replication run --dry-run          # what it takes
    python -m benchmarks.replication run [--seconds 560]    # goes on where it was; repeat it
    python -m benchmarks.replication analyse

As in Kung et al. (2023): each round scores what has not been chosen under the weights of the round
before, chooses some more, and fine-tunes the base model on all that has been chosen. All strategies
of a seed draw the same instances, and all runs are evaluated on the same held-out instances.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.common.lines import check_one_key, read_lines
from benchmarks.evidence.evidence_pools import share
from benchmarks.evidence.laboratory import Laboratory, load_model
from benchmarks.evidence.shoot_out import BASE, CONTESTANTS, N_PER_ROUND, N_ROUNDS, ShootOut
from engine.pools.bundled import held_out_pool, training_pool
from training.config.run_config import RunConfig
from training.evaluation.bootstrap import MeanDifference, crossed_difference

JOURNAL = Path("runs/replication/rounds.jsonl")
RESULT = Path("benchmarks/results/replication.txt")
OUTCOMES = {"rouge_l": ("ROUGE-L", 1), "gold_logprob": ("log-probability of gold tokens", 3)}
"""What is compared, its name and the digits it is shown with."""

CONFIG = RunConfig.model_validate(
    {
        "score": {"n_instances": 5, "n_perturbations": 5, "max_output_tokens": 16},
        "train": {"learning_rate": 1e-4, "epochs": 1, "instances_per_task": 8},
        "evaluate": {"instances_per_task": 10, "max_new_tokens": 24},
    }
)


def run(
    journal: Path, seconds: float, contestants: list[str], n_seeds: int, part: tuple[int, int]
) -> None:
    """As many rounds as fit the time."""
    began, longest = time.monotonic(), 0.0
    pool, held_out = training_pool(), held_out_pool()
    laboratory = Laboratory(*load_model(), CONFIG, held_out)
    shoot_out = ShootOut(laboratory, pool, held_out, journal)
    for name, seed, index in shoot_out.rounds(contestants, n_seeds, part):
        if time.monotonic() - began + longest > seconds:
            break
        record = shoot_out.run(name, seed, index)
        longest = max(longest, record["seconds"])
        print(f"{name}, seed {seed}, round {index}: {record['seconds']:.0f} s", flush=True)


TRAINED = 3
"""What a trained token costs in scored ones: its gradients take twice what its output takes."""


class Curves:
    """What became of every contestant after every round, over its seeds.

    Args:
        outcome: `rouge_l`, `exact_match` or `gold_logprob`.
    """

    def __init__(self, records: list[dict[str, Any]], outcome: str) -> None:
        self.by_place = {
            (each["contestant"], each["round"], each["seed"]): each for each in records
        }
        self.outcome = outcome

    def seeds(self, name: str, index: int) -> list[int]:
        """Those that have got so far."""
        return sorted(s for n, i, s in self.by_place if (n, i) == (name, index))

    def mean(self, name: str, index: int) -> float:
        """Over seeds and held-out tasks."""
        seeds = self.seeds(name, index)
        return fmean(fmean(self.by_place[name, index, seed][self.outcome]) for seed in seeds)

    def tokens(self, name: str, index: int) -> float:
        """All scorings up to a round, and the trainings they need: mean of seeds, in scored tokens.

        Who scores needs the weights of every round; who does not, those of the last alone.
        """
        rounds = range(index + 1)
        trained = rounds if CONTESTANTS[name].asks != "nothing" else [index]
        return fmean(
            sum(self.by_place[name, at, seed]["scoring_tokens"] for at in rounds)
            + TRAINED * sum(self.by_place[name, at, seed]["training_tokens"] for at in trained)
            for seed in self.seeds(name, index)
        )

    def less_random(self, name: str, index: int) -> MeanDifference | None:
        """Paired by seed and held-out task."""
        moves = []
        for seed in self.seeds(name, index):
            mine, random = (self.by_place.get((who, index, seed)) for who in (name, "random"))
            if mine and random:
                pairs = zip(mine[self.outcome], random[self.outcome], strict=True)
                moves.append([value - other for value, other in pairs])
        return crossed_difference(moves, f"{name}/{index}/{self.outcome}") if moves else None


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Several p, raised so that any false finding among them is as rare as one (Holm, 1979)."""
    adjusted, largest = {}, 0.0
    for at, (name, p) in enumerate(sorted(ps.items(), key=lambda each: each[1])):
        largest = max(largest, min(1.0, (len(ps) - at) * p))
        adjusted[name] = largest
    return adjusted


def show(records: list[dict[str, Any]], console: Console) -> None:
    """Learning curves, paired differences from random ones, and what a token brought."""
    for outcome, (title, digits) in OUTCOMES.items():
        _show(Curves(records, outcome), title, digits, console)
    console.print(
        f"tokens: scored ones and {TRAINED} times those trained on; p: of the last round, by "
        "Holm's rule over all strategies; per million: what a million tokens more than random's "
        "brought"
    )


def _show(curves: Curves, title: str, digits: int, console: Console) -> None:
    last = N_ROUNDS - 1
    console.print(f"{title} on the held-out tasks, and less random tasks of the same seed")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("chosen by", "tasks", "seeds", "score", "less random", "p", "tokens"):
        table.add_column(heading, justify="left" if heading == "chosen by" else "right")
    table.add_column("per million", justify="right")
    found = {
        (name, index): curves.less_random(name, index)
        for name in CONTESTANTS
        for index in range(N_ROUNDS)
        if name != "random"
    }
    ps = holm({name: each.p for (name, index), each in found.items() if each and index == last})
    base = curves.seeds(BASE, 0)
    if base:
        table.add_row("(base model)", "0", "-", f"{curves.mean(BASE, 0):.{digits}f}", *4 * ["-"])
    for name in CONTESTANTS:
        for index in range(N_ROUNDS):
            if not (seeds := curves.seeds(name, index)):
                continue
            less, tokens = found.get((name, index)), curves.tokens(name, index)
            more = tokens - curves.tokens("random", index) if less else 0.0
            table.add_row(
                name,
                str(len(curves.by_place[name, index, seeds[0]]["tasks"])),
                str(len(seeds)),
                f"{curves.mean(name, index):.{digits}f}",
                _interval(less, digits) if less else "-",
                f"{ps[name]:.3f}" if less and index == last else "-",
                f"{tokens:,.0f}",
                _interval(less, digits, 1e6 / more) if less and more > 0 else "-",
            )
    console.print(table)


def _interval(found: MeanDifference, digits: int, times: float = 1.0) -> str:
    value, low, high = (f"{times * each:+.{digits}f}" for each in found[:3])
    return f"{value} [{low}, {high}]"


def plan(contestants: list[str], n_seeds: int) -> str:
    """What all rounds take."""
    rounds = n_seeds * N_ROUNDS * len(contestants)
    scorings = n_seeds * (
        any(CONTESTANTS[name].asks != "nothing" for name in contestants)
        + (N_ROUNDS - 1) * sum(CONTESTANTS[name].asks != "nothing" for name in contestants)
    )
    sizes = ", ".join(str((index + 1) * N_PER_ROUND) for index in range(N_ROUNDS))
    return (
        f"{len(contestants)} strategies, {n_seeds} seeds, {N_ROUNDS} rounds: {rounds} trainings on "
        f"{sizes} tasks, {rounds + 1} evaluations, {scorings} scorings of up to "
        f"{len(training_pool())} tasks"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "analyse"])
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--target", type=Path, default=RESULT)
    parser.add_argument("--seconds", type=float, default=560.0, help="no round is begun beyond it")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--share", type=share, default=(1, 1), help="1/2: of two processes side by side, the first"
    )
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--dry-run", action="store_true")
    chosen = parser.parse_args()
    names = chosen.contestants.split(",")
    if unknown := sorted(set(names) - CONTESTANTS.keys()):
        parser.error(f"no contestant is called {unknown[0]}; valid: {', '.join(CONTESTANTS)}")
    if chosen.dry_run:
        print(plan(names, chosen.seeds))
    elif chosen.what == "run":
        run(chosen.journal, chosen.seconds, names, chosen.seeds, chosen.share)
    else:
        console = Console(width=116, record=True)
        check_one_key(records := read_lines(chosen.journal), chosen.journal)
        show(records, console)
        chosen.target.write_text(console.export_text())


if __name__ == "__main__":
    main()
