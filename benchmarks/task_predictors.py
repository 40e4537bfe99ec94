"""What is known of each bundled task before any training, for `benchmarks.datamodel`.

    jostle score bundled --instances 10 --perturbations 10 -o runs/evidence/generated.parquet
    jostle score bundled --instances 10 --perturbations 2 --gold -o runs/evidence/gold.parquet
    python -m benchmarks.task_predictors

The second scoring also has `--measure instruction_following_difficulty`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from engine.pools.bundled import held_out_pool, training_pool
from engine.tasks import Pool
from training.selection.similarity import NgramVectors

STORED = Path(__file__).parent / "data" / "bundled_predictors.parquet"


def similarity(pool: Pool, held_out: Pool) -> list[float]:
    """Mean similarity of each definition to those of the held-out tasks."""
    texts = [task.definition for task in (*held_out, *pool)]
    vectors = NgramVectors(texts)
    to_held_out = np.mean([vectors.similarities(at) for at in range(len(held_out))], axis=0)
    return [float(each) for each in to_held_out[len(held_out) :]]


def table(generated: pl.DataFrame, gold: pl.DataFrame, gold_pairs: pl.DataFrame) -> pl.DataFrame:
    """The predictors, tasks in the pool's order.

    Args:
        generated: Scores of the model's own outputs.
        gold: Scores of gold outputs, with instruction-following difficulty.
        gold_pairs: Their pairs.
    """
    pool = training_pool()
    lengths = gold_pairs.filter(pl.col("perturbation") == 0).group_by("task_id")
    about = pl.DataFrame(
        {
            "task_id": [task.id for task in pool],
            "classification": [float(task.is_classification) for task in pool],
            "similarity": similarity(pool, held_out_pool()),
        }
    )
    own = generated.select(
        "task_id",
        "prompt_uncertainty",
        "prediction_probability",
        "flip_rate",
        log_perplexity=pl.col("perplexity").log(),
    )
    of_gold = gold.select(
        "task_id",
        "instruction_following_difficulty",
        gold_log_perplexity=pl.col("perplexity").log(),
    )
    joined = about.select("task_id").join(own, on="task_id", how="left", maintain_order="left")
    joined = joined.join(of_gold, on="task_id", how="left", maintain_order="left")
    joined = joined.join(
        lengths.agg(output_tokens=pl.col("n_tokens").mean()),
        on="task_id",
        how="left",
        maintain_order="left",
    ).join(about, on="task_id", how="left", maintain_order="left")
    assert not sum(joined.null_count().row(0)), "a task has no score"
    return joined


def main() -> None:
    """Joins the two scorings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--target", type=Path, default=STORED)
    chosen = parser.parse_args()
    read = {
        name: pl.read_parquet(chosen.folder / f"{name}.parquet")
        for name in ("generated", "gold", "gold.pairs")
    }
    found = table(read["generated"], read["gold"], read["gold.pairs"])
    found.write_parquet(chosen.target)
    print(found)


if __name__ == "__main__":
    main()
