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
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.common.lines import read_lines
from benchmarks.evidence.laboratory import Laboratory, load_model
from benchmarks.evidence.shoot_out import BASE, CONTESTANTS, N_PER_ROUND, N_ROUNDS, ShootOut
from engine.pools.bundled import held_out_pool, training_pool
from training.config.run_config import RunConfig
from training.evaluation.bootstrap import MeanDifference, crossed_difference

JOURNAL = Path("runs/replication/rounds.jsonl")
RESULT = Path("benchmarks/results/replication.txt")
CONFIG = RunConfig.model_validate(
    {
        "score": {"n_instances": 5, "n_perturbations": 5, "max_output_tokens": 16},
        "train": {"learning_rate": 1e-4, "epochs": 1, "instances_per_task": 8},
        "evaluate": {"instances_per_task": 10, "max_new_tokens": 24},
    }
)


def run(journal: Path, seconds: float, contestants: list[str], n_seeds: int) -> None:
    """As many rounds as fit the time."""
    began, longest = time.monotonic(), 0.0
    pool, held_out = training_pool(), held_out_pool()
    laboratory = Laboratory(*load_model(), CONFIG, held_out)
    shoot_out = ShootOut(laboratory, pool, held_out, journal)
    for name, seed, index in shoot_out.rounds(contestants, n_seeds):
        if time.monotonic() - began + longest > seconds:
            break
        record = shoot_out.run(name, seed, index)
        longest = max(longest, record["seconds"])
        print(f"{name}, seed {seed}, round {index}: {record['seconds']:.0f} s", flush=True)


class Curves:
    """What became of every contestant after every round, over its seeds."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.by_place = {
            (each["contestant"], each["round"], each["seed"]): each for each in records
        }
        base = self.by_place.get((BASE, 0, 0))
        self.base = None if base is None else fmean(base["held_out"].values())

    def seeds(self, name: str, index: int) -> list[int]:
        """Those that have got so far."""
        return sorted(s for n, i, s in self.by_place if (n, i) == (name, index))

    def rouge_l(self, name: str, index: int) -> float:
        """Mean over seeds and held-out tasks."""
        seeds = self.seeds(name, index)
        return fmean(fmean(self.by_place[name, index, s]["held_out"].values()) for s in seeds)

    def tokens(self, name: str, index: int) -> float:
        """All scorings up to a round, and the one training that made its weights; mean of seeds."""
        return fmean(
            self.by_place[name, index, seed]["training_tokens"]
            + sum(self.by_place[name, at, seed]["scoring_tokens"] for at in range(index + 1))
            for seed in self.seeds(name, index)
        )

    def less_random(self, name: str, index: int) -> MeanDifference | None:
        """Paired by seed and held-out task."""
        moves = []
        for seed in self.seeds(name, index):
            if random := self.by_place.get(("random", index, seed)):
                mine = self.by_place[name, index, seed]["held_out"]
                moves.append([value - random["held_out"][task] for task, value in mine.items()])
        return crossed_difference(moves, f"{name}/{index}") if moves else None


def show(records: list[dict[str, Any]], console: Console) -> None:
    """Learning curves, paired differences from random ones, and what a token brought."""
    curves = Curves(records)
    console.print("ROUGE-L on the held-out tasks, and less random ones of the same seed")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("chosen by", "tasks", "seeds", "ROUGE-L", "less random", "p", "tokens"):
        table.add_column(heading, justify="left" if heading == "chosen by" else "right")
    table.add_column("gain per million", justify="right")
    for name in CONTESTANTS:
        for index in range(N_ROUNDS):
            seeds = curves.seeds(name, index)
            if not seeds:
                continue
            found = None if name == "random" else curves.less_random(name, index)
            between = found and f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
            rouge, tokens = curves.rouge_l(name, index), curves.tokens(name, index)
            table.add_row(
                name,
                str(len(curves.by_place[name, index, seeds[0]]["tasks"])),
                str(len(seeds)),
                f"{rouge:.1f}",
                between or "-",
                f"{found.p:.3f}" if found else "-",
                f"{tokens:,.0f}",
                "-" if curves.base is None else f"{(rouge - curves.base) / tokens * 1e6:.0f}",
            )
    console.print(table)


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
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--dry-run", action="store_true")
    chosen = parser.parse_args()
    names = chosen.contestants.split(",")
    if unknown := sorted(set(names) - CONTESTANTS.keys()):
        parser.error(f"no contestant is called {unknown[0]}; valid: {', '.join(CONTESTANTS)}")
    if chosen.dry_run:
        print(plan(names, chosen.seeds))
    elif chosen.what == "run":
        run(chosen.journal, chosen.seconds, names, chosen.seeds)
    else:
        console = Console(width=116, record=True)
        show(read_lines(chosen.journal), console)
        chosen.target.write_text(console.export_text())


if __name__ == "__main__":
    main()
