"""From the scores of a pool to its tables, for `jostle score` and the rounds of a run alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import polars as pl

from engine.errors import EngineError
from engine.measures import map_categories
from engine.protocol.api import PairScore, TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.question import Question
from engine.variance.analysis import Moves
from engine.variance.pair_grid import PairGrid
from engine.variance.pooling import standard_errors
from engine.variance.rounding_noise import noise_columns
from training.tables.question_tables import answer_columns, row_table

_AT_ONCE = 500  # scores held in memory

SCORE_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "prompt_uncertainty": pl.Float64,
    "standard_error": pl.Float64,
    "prediction_probability": pl.Float64,
    "perplexity": pl.Float64,
    "flip_rate": pl.Float64,
    "noise_floor": pl.Float64,
    "noise_error": pl.Float64,
    "n_instances": pl.Int64,
    "n_perturbations": pl.Int64,
    "map_category": pl.String,
    "selected": pl.Boolean,
    "precision": pl.String,
    "weights_version": pl.String,
}
"""Columns of `scores.parquet`, in order. `selected` is null until the selection has been made.

`standard_error` is that of prompt uncertainty, over repeats with other instances and perturbations.
`noise_floor` and `noise_error` are what rounding alone makes of it
(`engine.variance.rounding_noise`); null where no pair was read twice, as in float32.
Behind them stand the measures of a question (`training.tables.question_tables`),
`ranking_estimate` and `ranking_error` (`engine.design.ranking_columns`); after a race all that an
`engine.design.entries.Standing` says, and the other measures of its pairs.
"""

PAIR_COLUMNS: dict[str, Any] = {
    "task_id": pl.String,
    "instance_id": pl.String,
    "perturbation": pl.Int64,
    "n_tokens": pl.Int64,
    "logprob": pl.Float64,
    "probability": pl.Float64,
    "weights_version": pl.String,
    "n_prompt_tokens": pl.Int64,
    "is_greedy": pl.Boolean,
    "second_logprob": pl.Float64,
}
"""Columns of `pairs.parquet`, in order; the last two are null where they are not known."""


@dataclass(frozen=True)
class ScoreTables:
    """The tables of a scored pool, tasks in the pool's order.

    Attributes:
        scores: `SCORE_COLUMNS`, and the measures of the question; a row per task.
        pairs: `PAIR_COLUMNS`.
        rows: The question's own table; none where none was asked.
    """

    scores: pl.DataFrame
    pairs: pl.DataFrame
    rows: pl.DataFrame | None


def build_tables(
    scores: Iterable[TaskScore], order: Sequence[str], question: Question | None = None
) -> ScoreTables:
    """The tables of a scored pool; standard errors and map categories go by all of its tasks.

    Args:
        scores: Taken one by one, in any order; those of other tasks are passed over.
        order: Task ids in pool order.
        question: What was asked on top of likelihoods.

    Raises:
        EngineError: If a task has no score.
    """
    wanted = set(order)
    rows: dict[str, dict[str, Any]] = {}
    moves: dict[str, dict[str, Moves]] = {}
    pairs, own = [pl.DataFrame(schema=PAIR_COLUMNS)], []
    stream = (score for score in scores if score.task_id in wanted)
    while part := list(islice(stream, _AT_ONCE)):
        pairs.append(pair_table((each.task_id, each.pairs, each.weights_version) for each in part))
        if question:
            own.append(row_table(question, part))
        for score in part:
            row = {name: getattr(score, name) for name in SCORE_COLUMNS if hasattr(score, name)}
            moves[score.task_id] = {"standard_error": PairGrid.of(score.pairs).moves}
            if question:
                answer = score.answers[question.name]
                row |= answer_columns(question, answer)
                moves[score.task_id][question.error_column] = question.grid(answer.rows)
            rows[score.task_id] = row
    for task_id in order:
        if task_id not in rows:
            raise EngineError(f"the engine returned no score for {task_id}")
    errors = [
        pl.Series(name, standard_errors([moves[task_id][name] for task_id in order]), pl.Float64)
        for name in next(iter(moves.values()), {})
    ]
    others = [name for name in next(iter(rows.values()), {}) if name not in SCORE_COLUMNS]
    columns = SCORE_COLUMNS | dict.fromkeys(others, pl.Float64)
    table = pl.DataFrame([rows[task_id] for task_id in order], schema=columns).with_columns(errors)
    all_pairs = _in_order(pairs, order)
    table = with_noise(table, all_pairs)
    categories = map_categories(table).cast(pl.String).alias("map_category")
    return ScoreTables(
        scores=table.with_columns(categories),
        pairs=all_pairs,
        rows=_in_order(own, order) if own else None,
    )


def pairs_input(config: ScoreConfig) -> str:
    """What measures call the pairs of a scoring."""
    return "gold_pairs" if config.reference == "gold" else "pairs"


def with_noise(scores: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Scores with `noise_floor` and `noise_error`, and no standard error less than the latter.

    Args:
        pairs: `PAIR_COLUMNS`, of the same tasks.
    """
    noise = noise_columns(pairs)
    table = scores.drop(noise.columns[1:], strict=False)
    table = table.join(noise, on="task_id", how="left", maintain_order="left")
    # A repeat takes other readings, too, which its own few moves may not tell.
    table = table.with_columns(pl.max_horizontal("standard_error", "noise_error"))
    return table.select(*SCORE_COLUMNS, pl.exclude(*SCORE_COLUMNS))


def _in_order(parts: Sequence[pl.DataFrame], order: Sequence[str]) -> pl.DataFrame:
    """The rows of tables, tasks in the pool's order."""
    positions = pl.DataFrame(
        {"task_id": order, "position": range(len(order))},
        schema={"task_id": pl.String, "position": pl.Int64},
    )
    rows = pl.concat(parts).join(positions, on="task_id", maintain_order="left")
    return rows.sort("position", maintain_order=True).drop("position")


def pair_table(tasks: Iterable[tuple[str, Iterable[PairScore], str]]) -> pl.DataFrame:
    """A frame of pairs.

    Args:
        tasks: Of each its id, its pairs and the version of the weights.
    """
    rows = [
        {"task_id": task_id, **pair.model_dump(), "weights_version": version}
        for task_id, pairs, version in tasks
        for pair in pairs
    ]
    return pl.DataFrame(rows, schema=PAIR_COLUMNS)
