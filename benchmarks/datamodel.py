"""A task datamodel: subsets of the pool, fine-tuned on and evaluated, and what predicts the score.

    python -m benchmarks.datamodel run [--seconds 560]      # goes on where it was; repeat it
    python -m benchmarks.datamodel write                    # the runs so far, as Parquet
    python -m benchmarks.datamodel analyse                  # tables and pictures from the Parquet

One run fine-tunes the base model on 12 tasks of the bundled pool (`--pool niv2`: of real tasks)
and evaluates it on held-out ones (cf. Ilyas et al., 2022, arXiv 2202.00622). Question, plan and
findings are in `docs/evidence.md`. Everything stays in one process: rows that share their task's
instruction and examples are computed with one prefix
(`benchmarks.evidence.shared_prefix`), nothing is padded in training, and the base weights are
copied back in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from transformers import AutoTokenizer

from benchmarks.common.lines import append_line, check_one_key, read_lines
from benchmarks.evidence.datamodel_tables import CONSTANT
from benchmarks.evidence.evidence_pools import (
    NAMES,
    SHARE_HELP,
    EvidencePool,
    evidence_pool,
    predictors_file,
    runs_file,
    share,
)
from benchmarks.evidence.laboratory import (
    PACKS_PER_STEP,
    ROWS_PER_PACK,
    Laboratory,
    Outcome,
    laboratory_key,
    load_model,
)
from benchmarks.evidence.task_subsets import Floats, Subset, draw, given
from benchmarks.task_predictors import of_stored_pairs
from engine.prompts import PromptBuilder
from engine.tasks import Task
from engine.weights.models import BUNDLED_MODEL, resolve_model
from training.config.run_config import RunConfig
from training.evaluation.evaluator import Evaluator, build_evaluation_set

RESULTS = Path("benchmarks/results")
N_TASKS = 12
FEWEST = 8
"""Subsets below which nothing can be said."""

CONFIG = RunConfig.model_validate(
    {
        "train": {"learning_rate": 1e-4, "epochs": 1, "instances_per_task": 8},
        "evaluate": {"instances_per_task": 10, "max_new_tokens": 24},
    }
)
"""As the demo trains and evaluates, on twice as many held-out instances."""


def lean_of_pool(chosen: EvidencePool) -> Floats:
    """Prompt uncertainty given prediction probability, of the tasks in the pool's order."""
    stored = [of_stored_pairs(task) for task in chosen.stored_tasks()]
    columns = (
        np.array([task[name] for task in stored])
        for name in ("prompt_uncertainty", "prediction_probability")
    )
    return given(*columns)


def runs_key(chosen: EvidencePool) -> str:
    """What runs must have in common to be compared, as 16 hex digits."""
    train, evaluate = CONFIG.train, CONFIG.evaluate
    parts = [
        *(chosen.pool.digest(), chosen.held_out.digest()),
        *(N_TASKS, ROWS_PER_PACK, PACKS_PER_STEP),
        *(train.learning_rate, train.instances_per_task),
        *(evaluate.instances_per_task, evaluate.max_new_tokens),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def journal(chosen: EvidencePool) -> Path:
    """The runs that are not in the stored file yet."""
    return chosen.records / "runs.jsonl"


def known_runs(chosen: EvidencePool, model: str | None = None) -> dict[int, dict[str, Any]]:
    """The runs of the file and of the journal by number.

    Args:
        model: Key of the weights they begin with; those of others are left. The first runs were
            made before it was written down.
    """
    records = pl.read_parquet(chosen.runs).to_dicts() if chosen.runs.exists() else []
    key = runs_key(chosen)
    records += read_lines(journal(chosen), key)
    return {
        record["run"]: record
        for record in records
        if record["key"] == key and (not model or record.get("model") in (None, model))
    }


def run_all(
    chosen: EvidencePool, seconds: float, n_runs: int, part: tuple[int, int] = (1, 1)
) -> None:
    """Runs that are not known yet, as long as one more fits the time.

    Args:
        part: Which of how many processes side by side this is: each makes its own numbers.
    """
    began = time.monotonic()
    model, tokenizer = load_model()
    weights = laboratory_key(model)
    done = known_runs(chosen, weights)
    laboratory = Laboratory(model, tokenizer, CONFIG, chosen.held_out)
    lean = lean_of_pool(chosen)
    longest = 0.0
    for run in range(-1, n_runs):
        started = time.monotonic()
        if run in done or run % part[1] != part[0] - 1:
            continue
        if started - began + 1.1 * longest > seconds:
            break
        subset = draw(run, lean, N_TASKS) if run >= 0 else Subset(-1, "uniform", (), 0)
        row = as_row(laboratory.run(subset, chosen.pool))
        record = {"key": runs_key(chosen), "model": weights, **row}
        append_line(journal(chosen), record)
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


def best_constants(chosen: EvidencePool) -> dict[str, tuple[float, float, None]]:
    """ROUGE-L and exact match of the gold output that fits a held-out task's instances best."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(BUNDLED_MODEL))
    builder = PromptBuilder(tokenizer, CONFIG.score.prompt, CONFIG.model.max_model_len)
    data = build_evaluation_set(list(chosen.held_out), builder, CONFIG.evaluate)
    evaluator = Evaluator(data, CONFIG.evaluate.max_new_tokens)

    def scores(task: Task, answer: str) -> tuple[float, float, None]:
        outputs = evaluator.compare(task, [answer] * len(task.instances))
        rouge_l = fmean(each.rouge_l for each in outputs)
        return rouge_l, 100 * fmean(each.exact_match for each in outputs), None

    return {
        task.id: max(
            (scores(task, gold) for each in task.instances for gold in each.outputs),
            key=lambda found: found[:2],
        )
        for task in data.tasks
    }


def constant_row(chosen: EvidencePool) -> dict[str, Any]:
    """The best constant answers as a row beside the runs."""
    found = best_constants(chosen)
    rouge_l, exact_match, _ = (column for column in zip(*found.values(), strict=True))
    outcome = Outcome(
        run=CONSTANT,
        kind="constant",
        seed=0,
        tasks=(),
        rouge_l=fmean(rouge_l),
        exact_match=fmean(exact_match),
        gold_logprob=None,
        held_out=found,
        losses=(),
        tokens=0,
        train_s=0.0,
        evaluate_s=0.0,
        device="none",
    )
    return {"key": runs_key(chosen), **as_row(outcome)}


def write(chosen: EvidencePool) -> None:
    """Adds the runs of the journal to the file, by number, and the best constant answers."""
    known = known_runs(chosen)
    if len({run["model"] for run in known.values() if run.get("model")}) > 1:
        raise SystemExit(f"{journal(chosen)} holds runs of several models; move it away")
    known[CONSTANT] = constant_row(chosen)
    if chosen.runs.exists() and not known.keys() >= {*pl.read_parquet(chosen.runs)["run"]}:
        raise SystemExit(f"{chosen.runs} holds runs of another pool or design; move it away first")
    rows = [record for _, record in sorted(known.items())]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table.write_parquet(chosen.runs, compression="zstd", compression_level=19)
    print(f"{table.height} runs, {chosen.runs.stat().st_size} bytes: {chosen.runs}")


def analyse(name: str, results: Path) -> None:
    """Prints the tables of a pool's runs, writes them down and draws the picture."""
    from benchmarks.evidence.datamodel_picture import draw_picture
    from benchmarks.evidence.datamodel_tables import Runs, show

    check_one_key((stored := pl.read_parquet(runs_file(name))).to_dicts(), runs_file(name))
    runs = Runs(stored, pl.read_parquet(predictors_file(name)))
    if len(runs.of_subset) < FEWEST:
        raise SystemExit(f"{len(runs.of_subset)} subsets; the analysis takes {FEWEST} at least")
    console = Console(width=116, record=True)
    show(runs, console)
    target = results / f"datamodel_{name}.txt"
    target.write_text(console.export_text())
    draw_picture(runs, target.with_suffix(".png"))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["run", "write", "analyse"])
    parser.add_argument("--pool", choices=NAMES, default="bundled")
    parser.add_argument("--seconds", type=float, default=560.0, help="no run is begun beyond it")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--share", type=share, default=(1, 1), help=SHARE_HELP)
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    asked = parser.parse_args()
    if asked.what == "analyse":
        analyse(asked.pool, asked.results)
        return
    chosen = evidence_pool(asked.pool)
    if asked.what == "run":
        run_all(chosen, asked.seconds, asked.runs, asked.share)
    else:
        write(chosen)


if __name__ == "__main__":
    main()
