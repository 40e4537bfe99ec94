"""A task datamodel: subsets of the pool, fine-tuned on and evaluated, and what predicts the score.

    python -m benchmarks.datamodel run [--seconds 560]      # goes on where it was; repeat it
    python -m benchmarks.datamodel write                    # the runs so far, as Parquet
    python -m benchmarks.datamodel analyse                  # tables and pictures from the Parquet

One run fine-tunes the base model on 12 tasks of the bundled pool and evaluates it on the bundled
held-out tasks (cf. Ilyas et al., 2022, arXiv 2202.00622). Question, plan and findings are in
`docs/evidence.md`. Everything stays in one process: rows that share their task's instruction and
examples are computed with one prefix (`benchmarks.shared_prefix`), nothing is padded in training,
and the base weights are copied back in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from benchmarks.laboratory import PACKS_PER_STEP, ROWS_PER_PACK, Laboratory, Outcome, load_model
from benchmarks.lines import append_line, read_lines
from benchmarks.reference_pairs import SECOND
from benchmarks.stored_pairs import load
from benchmarks.task_predictors import STORED as PREDICTORS
from benchmarks.task_predictors import of_stored_pairs
from benchmarks.task_subsets import Floats, Subset, draw, given
from engine.pools.bundled import held_out_pool, training_pool
from training.config.run_config import RunConfig

JOURNAL = Path("runs/datamodel/bundled.jsonl")
STORED = Path(__file__).parent / "data" / "datamodel_bundled.parquet"
RESULT = Path("benchmarks/results/datamodel.txt")
N_TASKS = 12

CONFIG = RunConfig.model_validate(
    {
        "train": {"learning_rate": 1e-4, "epochs": 1, "instances_per_task": 8},
        "evaluate": {"instances_per_task": 10, "max_new_tokens": 24},
    }
)
"""As the demo trains and evaluates, on twice as many tasks and held-out instances."""


def lean_of_pool() -> Floats:
    """Prompt uncertainty given prediction probability, of the tasks in the pool's order."""
    stored = {task.task_id: of_stored_pairs(task) for task in load(SECOND)}
    columns = (
        np.array([stored[task.id][name] for task in training_pool()])
        for name in ("prompt_uncertainty", "prediction_probability")
    )
    return given(*columns)


def runs_key() -> str:
    """What runs must have in common to be compared, as 16 hex digits."""
    train, evaluate = CONFIG.train, CONFIG.evaluate
    parts = [
        *(training_pool().digest(), held_out_pool().digest()),
        *(N_TASKS, ROWS_PER_PACK, PACKS_PER_STEP),
        *(train.learning_rate, train.instances_per_task),
        *(evaluate.instances_per_task, evaluate.max_new_tokens),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def known_runs(stored: Path, journal: Path) -> dict[int, dict[str, Any]]:
    """The runs of the file and of the journal by number; a line that was cut off is none."""
    records = pl.read_parquet(stored).to_dicts() if stored.exists() else []
    records += read_lines(journal)
    key = runs_key()
    return {record["run"]: record for record in records if record["key"] == key}


def run_all(stored: Path, journal: Path, seconds: float, n_runs: int) -> None:
    """Runs that are not known yet, as long as one more fits the time."""
    began = time.monotonic()
    pool, held_out = training_pool(), held_out_pool()
    done = known_runs(stored, journal)
    laboratory = Laboratory(*load_model(), CONFIG, held_out)
    lean = lean_of_pool()
    longest = 0.0
    for run in range(-1, n_runs):
        started = time.monotonic()
        if run in done:
            continue
        if started - began + 1.1 * longest > seconds:
            break
        subset = draw(run, lean, N_TASKS) if run >= 0 else Subset(-1, "uniform", (), 0)
        record = {"key": runs_key(), **as_row(laboratory.run(subset, pool))}
        append_line(journal, record)
        longest = max(longest, time.monotonic() - started)
        print(
            f"run {run}: trained {record['train_s']:.0f} s, evaluated {record['evaluate_s']:.0f} s",
            flush=True,
        )


def as_row(outcome: Outcome) -> dict[str, Any]:
    """A run as it is stored: what belongs to held-out tasks in lists of their order."""
    row = asdict(outcome)
    held_out = row.pop("held_out")
    names = ("held_out_rouge_l", "held_out_exact_match", "held_out_gold_logprob")
    columns = map(list, zip(*held_out.values(), strict=True))
    return {**row, "held_out": list(held_out), **dict(zip(names, columns, strict=True))}


def write(stored: Path, journal: Path) -> None:
    """Adds the runs of the journal to the file, by number."""
    rows = [record for _, record in sorted(known_runs(stored, journal).items())]
    table = pl.DataFrame(rows)
    table.write_parquet(stored, compression="zstd", compression_level=19)
    print(f"{len(rows)} runs, {stored.stat().st_size} bytes: {stored}")


def analyse(stored: Path, target: Path) -> None:
    """Prints the tables, writes them down and draws the picture."""
    from benchmarks.datamodel_tables import Runs, draw_picture, show

    runs = Runs(pl.read_parquet(stored), pl.read_parquet(PREDICTORS))
    console = Console(width=116, record=True)
    show(runs, console)
    target.write_text(console.export_text())
    draw_picture(runs, target.with_suffix(".png"))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "write", "analyse"])
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--seconds", type=float, default=560.0, help="no run is begun beyond it")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--data", type=Path, default=STORED)
    parser.add_argument("--target", type=Path, default=RESULT)
    chosen = parser.parse_args()
    if chosen.what == "run":
        run_all(chosen.data, chosen.journal, chosen.seconds, chosen.runs)
    elif chosen.what == "write":
        write(chosen.data, chosen.journal)
    else:
        analyse(chosen.data, chosen.target)


if __name__ == "__main__":
    main()
