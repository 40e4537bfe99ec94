"""What is known of each bundled task before any training, for `benchmarks.datamodel`.

    python -m benchmarks.perturbations collect
    python -m benchmarks.task_predictors

Takes the pairs of own and gold outputs from the first, and scores gold outputs without prompts.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.laboratory import load_model
from benchmarks.lines import read_lines
from benchmarks.perturbation_tables import DEFAULT
from benchmarks.perturbations import JOURNAL, config_of
from benchmarks.shared_prefix import Pack, output_logprobs
from engine.measures.compute import compute_measures
from engine.pools.bundled import held_out_pool, training_pool
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Scored
from engine.questions.difficulty_question import DifficultyQuestion
from engine.questions.pair_plan import plan_task
from engine.questions.question_registry import QUESTIONS
from engine.tasks import Pool, Task
from training.selection.similarity import NgramVectors

STORED = Path(__file__).parent / "data" / "bundled_predictors.parquet"
GOLD = "gold outputs"


def similarity(pool: Pool, held_out: Pool) -> list[float]:
    """Mean similarity of each definition to those of the held-out tasks."""
    vectors = NgramVectors([task.definition for task in (*held_out, *pool)])
    to_held_out = np.mean([vectors.similarities(at) for at in range(len(held_out))], axis=0)
    return [float(each) for each in to_held_out[len(held_out) :]]


def difficulty(model: Any, task: Task, config: ScoreConfig, builder: PromptBuilder) -> float:
    """Instruction-following difficulty of a task."""
    question = QUESTIONS["instruction_following_difficulty"]
    assert isinstance(question, DifficultyQuestion)
    asked = question.plan(plan_task(task, config, builder), (), config, builder)
    answers: dict[int, Scored] = {}
    places = sorted(range(len(asked)), key=lambda place: asked[place].about[0])
    for _, group in groupby(places, key=lambda place: asked[place].about[0]):
        of_context = list(group)
        rows = [(asked[place].call.prompt, asked[place].call.output) for place in of_context]
        with torch.inference_mode():
            logprobs = output_logprobs(model, Pack.of(rows)).tolist()
        for place, (_, output) in zip(of_context, rows, strict=True):
            own, logprobs = logprobs[: len(output)], logprobs[len(output) :]
            answers[place] = Scored(tuple(own), 0, 0, rescored=False)
    kept = question.keep(asked, [answers[place] for place in range(len(asked))], task, builder)
    rows_of_task = question.arrange(row.model_dump() for row in kept)
    value = question.measures[0].compute(rows_of_task)
    assert value is not None
    return float(value)


def measures(setting: str, journal: Path) -> dict[str, dict[str, Any]]:
    """The measures of each task under a setting, and the mean length of its outputs."""
    found: dict[str, dict[str, Any]] = {}
    for record in read_lines(journal / f"{setting}.jsonl"):
        pairs = pl.DataFrame(record["pairs"])
        (row,) = compute_measures(pairs).iter_rows(named=True)
        originals = pairs.filter(pl.col("perturbation") == 0)
        found[record["task_id"]] = row | {"n_tokens": originals["n_tokens"].mean()}
    return found


def main() -> None:
    """Writes a row per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--target", type=Path, default=STORED)
    chosen = parser.parse_args()
    model, tokenizer = load_model()
    config = config_of(GOLD)
    builder = PromptBuilder(tokenizer, config.prompt, 2048)
    own, gold = measures(DEFAULT, chosen.journal), measures(GOLD, chosen.journal)
    pool = training_pool()
    rows = [
        {
            "task_id": task.id,
            "prompt_uncertainty": own[task.id]["prompt_uncertainty"],
            "prediction_probability": own[task.id]["prediction_probability"],
            "flip_rate": own[task.id]["flip_rate"],
            "log_perplexity": np.log(own[task.id]["perplexity"]),
            "gold_log_perplexity": np.log(gold[task.id]["perplexity"]),
            "instruction_following_difficulty": difficulty(model, task, config, builder),
            "gold_tokens": gold[task.id]["n_tokens"],
            "classification": float(task.is_classification),
            "similarity": like_held_out,
        }
        for task, like_held_out in zip(pool, similarity(pool, held_out_pool()), strict=True)
    ]
    table = pl.DataFrame(rows)
    table.write_parquet(chosen.target)
    print(table)


if __name__ == "__main__":
    main()
