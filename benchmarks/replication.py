"""The shoot-out: ways to choose tasks, several seeds and rounds, from the base model each round.

    python -m benchmarks.replication run --dry-run          # what it takes
    python -m benchmarks.replication run [--seconds 560]    # goes on where it was; repeat it
    python -m benchmarks.replication write                  # the rounds so far, as Parquet
    python -m benchmarks.replication analyse                # tables and pictures from the Parquet

As in Kung et al. (2023): each round scores what has not been chosen under the weights of the round
before, chooses some more, and fine-tunes the base model on all that has been chosen. All strategies
of a seed draw the same instances, and all runs are evaluated on the same held-out instances, which
are those of `benchmarks.datamodel`. `--pool niv2` takes real tasks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from benchmarks.common.lines import check_one_key, read_lines
from benchmarks.evidence.evidence_pools import (
    NAMES,
    SHARE_HELP,
    EvidencePool,
    evidence_pool,
    large_family,
    predictors_file,
    rounds_file,
    runs_file,
    share,
)
from benchmarks.evidence.laboratory import Laboratory, load_model
from benchmarks.evidence.replication_tables import draw_curves, draw_map, show, show_together
from benchmarks.evidence.shoot_out import (
    BASE,
    CONTESTANTS,
    EVERYTHING,
    N_PER_ROUND,
    N_ROUNDS,
    N_SEEDS,
    ShootOut,
)
from training.config.run_config import RunConfig

RESULTS = Path("benchmarks/results")

CONFIG = RunConfig.model_validate(
    {
        "score": {"n_instances": 5, "n_perturbations": 5, "max_output_tokens": 16},
        "train": {"learning_rate": 1e-4, "epochs": 1, "instances_per_task": 8},
        "evaluate": {"instances_per_task": 10, "max_new_tokens": 24},
    }
)


def journal(name: str) -> Path:
    """The rounds of a pool so far."""
    return Path(f"runs/replication/{name}.jsonl")


def stored_rounds(name: str) -> list[dict[str, Any]]:
    """The rounds of a pool in the repository."""
    file = rounds_file(name)
    return pl.read_parquet(file).to_dicts() if file.exists() else []


def run(
    chosen: EvidencePool,
    seconds: float,
    contestants: list[str],
    n_seeds: int,
    part: tuple[int, int] = (1, 1),
) -> None:
    """As many rounds as fit the time."""
    began, longest = time.monotonic(), 0.0
    laboratory = Laboratory(*load_model(), CONFIG, chosen.held_out)
    stored, log = stored_rounds(chosen.name), journal(chosen.name)
    shoot_out = ShootOut(laboratory, chosen.pool, chosen.held_out, log, stored)
    for name, seed, index in shoot_out.rounds(contestants, n_seeds, part):
        if time.monotonic() - began + longest > seconds:
            break
        record = shoot_out.run(name, seed, index)
        longest = max(longest, record["seconds"])
        print(f"{name}, seed {seed}, round {index}: {record['seconds']:.0f} s", flush=True)


def write(name: str) -> None:
    """Adds the rounds of the journal to the file of the repository."""
    target, order = rounds_file(name), [BASE, EVERYTHING, *CONTESTANTS]
    records = [*stored_rounds(name), *read_lines(journal(name))]
    if not records:
        raise SystemExit(f"{journal(name)}: no round has ended yet; run goes on")
    check_one_key(records, target)
    by_place = {(order.index(r["contestant"]), r["seed"], r["round"]): r for r in records}
    rows = [record for _, record in sorted(by_place.items())]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table.write_parquet(target, compression="zstd", compression_level=19)
    print(f"{table.height} rounds, {target.stat().st_size} bytes: {target}")


def analyse(name: str, results: Path) -> None:
    """Prints the tables of a pool's rounds, writes them down and draws the pictures."""
    if not (records := stored_rounds(name)):
        raise SystemExit(f"{rounds_file(name)}: no rounds are stored; write comes first")
    predictors = pl.read_parquet(predictors_file(name))
    console = Console(width=140, record=True)
    show(records, console, large_family(predictors["task_id"]))
    show_together(records, pl.read_parquet(runs_file(name)), predictors, console)
    target = results / f"replication_{name}.txt"
    target.write_text(console.export_text())
    draw_curves(records, target.with_suffix(".png"))
    draw_map(records, target.with_name(f"replication_{name}_map.png"))


def plan(contestants: list[str], n_seeds: int, n_tasks: int) -> str:
    """What all rounds take."""
    trainings = n_seeds * (N_ROUNDS * len(contestants) + 1)
    scorings = n_seeds * (
        any(CONTESTANTS[name].asks != "nothing" for name in contestants)
        + (N_ROUNDS - 1) * sum(CONTESTANTS[name].asks != "nothing" for name in contestants)
    )
    sizes = ", ".join(str((index + 1) * N_PER_ROUND) for index in range(N_ROUNDS))
    return (
        f"{len(contestants)} strategies, {n_seeds} seeds, {N_ROUNDS} rounds: {trainings} trainings "
        f"on {sizes} tasks or all, {trainings + 1} evaluations, {scorings} scorings of up to "
        f"{n_tasks} tasks"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "write", "analyse"])
    parser.add_argument("--pool", choices=NAMES, default="bundled")
    parser.add_argument("--seconds", type=float, default=560.0, help="no round is begun beyond it")
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--share", type=share, default=(1, 1), help=SHARE_HELP)
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    names = asked.contestants.split(",")
    if unknown := sorted(set(names) - CONTESTANTS.keys()):
        parser.error(f"no contestant is called {unknown[0]}; valid: {', '.join(CONTESTANTS)}")
    if asked.what == "write":
        write(asked.pool)
    elif asked.what == "analyse":
        analyse(asked.pool, asked.results)
    elif asked.dry_run:
        print(plan(names, asked.seeds, len(evidence_pool(asked.pool).pool)))
    else:
        run(evidence_pool(asked.pool), asked.seconds, names, asked.seeds, asked.share)


if __name__ == "__main__":
    main()
