"""What a question brought: columns of `scores.parquet`, and the rows of a table of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import polars as pl

from engine.protocol.api import QuestionAnswer, TaskScore
from engine.questions.question import Question
from engine.questions.question_registry import QUESTIONS


def question_files(path: Callable[[str], Path]) -> dict[str, Path]:
    """The file of every question's table, by the question's name.

    Args:
        path: Of a table, given its name.
    """
    return {each.name: path(each.table) for each in QUESTIONS.values()}


def row_columns(question: Question) -> dict[str, Any]:
    """The columns of its table: what its rows hold, between task and weights."""
    hints = get_type_hints(question.row)
    columns = {name: _column(hints[name]) for name in question.row.model_fields}
    return {"task_id": pl.String, **columns, "weights_version": pl.String}


def _column(hint: Any) -> Any:
    (kind,) = {*(get_args(hint) or (hint,))} - {type(None)}
    return pl.DataType.from_python(kind)


def row_table(question: Question, scores: Iterable[TaskScore]) -> pl.DataFrame:
    """Every row of every task, in their order; none of a task that it was not asked about."""
    rows = [
        {"task_id": score.task_id, **row, "weights_version": score.weights_version}
        for score in scores
        if question.name in score.answers
        for row in score.answers[question.name].rows
    ]
    return pl.DataFrame(rows, schema=row_columns(question))


def answer_columns(question: Question, answer: QuestionAnswer) -> dict[str, float | None]:
    """The columns of `scores.parquet`: its measures, the standard error behind the first one."""
    first, *others = answer.values.items()
    return dict([first, (question.error_column, answer.standard_error), *others])
