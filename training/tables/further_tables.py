"""What scores hold beside likelihoods, as tables: sampled outputs, and labels.

Each has columns in `scores.parquet` and a table of its own, a row per sample or label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from engine.measures.disagreement import disagreement_table
from engine.measures.label_uncertainty import information_table
from engine.measures.measure import Input
from engine.protocol.api import TaskScore
from engine.protocol.measurements import LabelScore, Sample
from engine.protocol.score_config import MeasureName
from engine.variance.analysis import Moves

_Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Further:
    """One kind of further measurement.

    Attributes:
        name: `samples` or `labels`; its table is `NAME.parquet`.
        needs: What measures call such a table.
        score_columns: Columns of `scores.parquet`, behind the others. The second one is the
            standard error of the first, pooled over the tasks as that of prompt uncertainty is.
        row_columns: Columns of its own table.
        rows: Its rows of a task; none where it was not measured.
        values: The values of `score_columns` of a task, but for the standard error.
        table: The table whose mean is the first value, shape (instances, perturbations).
    """

    name: Literal["samples", "labels"]
    needs: Input
    score_columns: dict[str, Any]
    row_columns: dict[str, Any]
    rows: Callable[[TaskScore], Sequence[Sample | LabelScore]]
    values: Callable[[TaskScore], _Values]
    table: Callable[[TaskScore], Moves]

    @property
    def error_column(self) -> str:
        """The name of the second one."""
        return list(self.score_columns)[1]

    def build_table(self, scores: Iterable[TaskScore]) -> pl.DataFrame:
        """Its own table: every row of every task, in their order."""
        rows = [
            {"task_id": score.task_id, **row.model_dump(), "weights_version": score.weights_version}
            for score in scores
            for row in self.rows(score)
        ]
        return pl.DataFrame(rows, schema=self.row_columns)


_ROW_START: dict[str, Any] = {
    "task_id": pl.String,
    "instance_id": pl.String,
    "perturbation": pl.Int64,
}


def _samples(score: TaskScore) -> tuple[Sample, ...]:
    return score.disagreement.samples if score.disagreement else ()


def _labels(score: TaskScore) -> tuple[LabelScore, ...]:
    return score.labels.scores if score.labels else ()


def _disagreement(score: TaskScore) -> _Values:
    assert score.disagreement is not None, "tasks with and without samples"
    return {
        "output_disagreement": score.disagreement.output_disagreement,
        "output_rouge_distance": score.disagreement.rouge_distance,
        "output_label_entropy": score.disagreement.label_entropy,
    }


def _label_uncertainty(score: TaskScore) -> _Values:
    assert score.labels is not None, "tasks with and without labels"
    return {"label_bald": score.labels.label_bald, "label_entropy": score.labels.label_entropy}


SAMPLES = Further(
    name="samples",
    needs="samples",
    score_columns={
        "output_disagreement": pl.Float64,
        "output_disagreement_error": pl.Float64,
        "output_rouge_distance": pl.Float64,
        "output_label_entropy": pl.Float64,
    },
    row_columns={
        **_ROW_START,
        "sample": pl.Int64,
        "output": pl.String,
        "label": pl.String,
        "n_tokens": pl.Int64,
        "finish_reason": pl.String,
        "weights_version": pl.String,
    },
    rows=_samples,
    values=_disagreement,
    table=lambda score: disagreement_table(_samples(score)),
)
"""Sampled outputs. `output_label_entropy` is null for tasks without labels."""

LABELS = Further(
    name="labels",
    needs="label_probabilities",
    score_columns={
        "label_bald": pl.Float64,
        "label_bald_error": pl.Float64,
        "label_entropy": pl.Float64,
    },
    row_columns={
        **_ROW_START,
        "label": pl.String,
        "n_tokens": pl.Int64,
        "logprob": pl.Float64,
        "probability": pl.Float64,
        "weights_version": pl.String,
    },
    rows=_labels,
    values=_label_uncertainty,
    table=lambda score: information_table(_labels(score)),
)
"""Probabilities of labels, which sum to 1 under every prompt."""

FURTHER: dict[MeasureName, Further] = {"output_disagreement": SAMPLES, "label_bald": LABELS}
"""What a measure asks for on top of likelihoods."""
