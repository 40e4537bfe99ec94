"""What is known of each task of a pool before any training, for `benchmarks.datamodel`.

    python -m benchmarks.task_predictors [--seconds 540]    # goes on where it was; repeat it

Prompt uncertainty, prediction probability and perplexity are those of the stored pairs (10
instances and perturbations of the bundled tasks, 20 of the real ones, outputs of at most 8 tokens);
the others are measured here, in this process, on 10 instances.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.common.lines import append_line, read_lines
from benchmarks.common.stored_pairs import StoredTask
from benchmarks.evidence.evidence_pools import NAMES, SHARE_HELP, EvidencePool, evidence_pool, share
from benchmarks.evidence.laboratory import laboratory_key, load_model
from benchmarks.evidence.pack_scoring import score_tasks
from benchmarks.evidence.shared_prefix import Pack, output_logprobs
from engine.measures.compute import compute_measures
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Scored
from engine.questions.difficulty_question import DifficultyQuestion
from engine.questions.pair_plan import Pair, plan_task
from engine.questions.question_registry import QUESTIONS
from engine.tasks import Pool, Task
from training.selection.similarity import NgramVectors

SCORED = ScoreConfig(n_instances=10, n_perturbations=4, max_output_tokens=8)


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
        calls = [asked[place].call for place in of_context]
        rows = [(call.prompt, call.output) for call in calls if isinstance(call, Pair)]
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


def score(model: Any, task: Task, builder: PromptBuilder) -> dict[str, Any]:
    """What takes a model: the flip rate, and what gold outputs say."""
    gold = SCORED.model_copy(update={"reference": "gold"})
    (pairs,) = score_tasks(model, [task], SCORED, builder)
    (of_gold,) = score_tasks(model, [task], gold, builder, perturbed=False)
    (own,) = compute_measures(pairs.table(), names=["flip_rate"]).iter_rows(named=True)
    (golden,) = compute_measures(of_gold.table(), names=["perplexity"]).iter_rows(named=True)
    return {
        "task_id": task.id,
        "flip_rate": own["flip_rate"],
        "gold_log_perplexity": math.log(golden["perplexity"]),
        "instruction_following_difficulty": difficulty(model, task, gold, builder),
        "gold_tokens": of_gold.table()["n_tokens"].mean(),
    }


def of_stored_pairs(task: StoredTask) -> dict[str, float]:
    """What the stored pairs say: prompt uncertainty, probability, perplexity."""
    return {
        "prompt_uncertainty": float(task.moves.mean()),
        "prediction_probability": float(task.originals.mean()),
        "log_perplexity": float(-np.log(task.originals).mean()),
    }


def journal(chosen: EvidencePool) -> Path:
    """What has been scored."""
    return chosen.records / "predictors.jsonl"


def collect(chosen: EvidencePool, seconds: float, part: tuple[int, int] = (1, 1)) -> bool:
    """Scores what the journal does not hold; whether all is there.

    Args:
        part: Which of how many processes side by side this is: each takes its own tasks.
    """
    began, pool = time.monotonic(), chosen.pool
    model, tokenizer = load_model()
    key = laboratory_key(model, SCORED.model_dump_json(), pool.digest())
    done = {record["task_id"] for record in read_lines(journal(chosen), key)}
    builder = PromptBuilder(tokenizer, SCORED.prompt, 2048)
    for task in list(pool)[part[0] - 1 :: part[1]]:
        if task.id not in done:
            if time.monotonic() - began > seconds:
                break
            append_line(journal(chosen), {"key": key, **score(model, task, builder)})
    done = {record["task_id"] for record in read_lines(journal(chosen), key)}
    print(f"{len(done)} of {len(pool)} tasks are scored", flush=True)
    return len(done) == len(pool)


def write(chosen: EvidencePool, *, scored: bool) -> None:
    """The table of all tasks.

    Args:
        scored: Whether with what a model had to be asked for; else what is known without.
    """
    records = read_lines(journal(chosen)) if scored else []
    done = {record["task_id"]: record for record in records}
    like_held_out = similarity(chosen.pool, chosen.held_out)
    rows = [
        {
            "task_id": task.id,
            **of_stored_pairs(stored),
            **done.get(task.id, {}),
            "classification": float(task.is_classification),
            "similarity": alike,
        }
        for task, stored, alike in zip(
            chosen.pool, chosen.stored_tasks(), like_held_out, strict=True
        )
    ]
    table = pl.DataFrame(rows).drop("key", strict=False)
    if chosen.predictors.exists():
        known = pl.read_parquet_schema(chosen.predictors)
        if lost := [name for name in known if name not in table.columns]:
            raise SystemExit(
                f"{chosen.predictors} holds more: {', '.join(lost)}; move it away first"
            )
    table.write_parquet(chosen.predictors)
    print(table)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pool", choices=NAMES, default="bundled")
    parser.add_argument("--seconds", type=float, default=540.0, help="no task is begun beyond it")
    parser.add_argument("--share", type=share, default=(1, 1), help=SHARE_HELP)
    parser.add_argument("--stored", action="store_true", help="ask no model")
    asked = parser.parse_args()
    chosen = evidence_pool(asked.pool)
    if asked.stored:
        write(chosen, scored=False)
    elif collect(chosen, asked.seconds, asked.share):
        write(chosen, scored=True)


if __name__ == "__main__":
    main()
