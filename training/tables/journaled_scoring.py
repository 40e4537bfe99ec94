"""Scores of tasks onto disk, for `jostle score` and the rounds of a run alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from engine.design.measurement import perturbation_strength
from engine.design.ranking_columns import RANKING_COLUMNS, ranking_columns
from engine.errors import EngineError
from engine.measures.compute import compute_measures
from engine.measures.measure_registry import find_measures
from engine.protocol.api import SkippedTask
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.questions.question_registry import find_question
from engine.tasks import Task
from training.tables.score_journal import ScoreJournal
from training.tables.score_tables import SCORE_COLUMNS, build_tables, pairs_input
from training.tables.table_files import write_parquet
from training.tables.task_columns import with_columns_of


class TableFiles(Protocol):
    """Where scores go; `questions` by the name of the question."""

    journal: Path
    scores: Path
    pairs: Path
    questions: dict[str, Path]


def score_columns(config: ScoreConfig) -> set[str] | None:
    """Columns that hold something in the scores of a design, with every measure.

    None where a question is asked: it may tell more than its measures.
    """
    if find_question(config):
        return None
    measures = find_measures((), pairs_input(config))
    empty = {"flip_rate"} if config.reference == "gold" else set[str]()
    if config.second_readings == 0:
        empty |= {"noise_floor", "noise_error"}
    return {*SCORE_COLUMNS, *RANKING_COLUMNS, *(measure.name for measure in measures)} - empty


class JournaledScoring:
    """One scoring of tasks; what its journal holds is not asked again.

    Args:
        tasks: Gone through once to ask, and once more if an earlier call has asked for some.
        order: Their ids.
        version: The weights that all scores must come from.
        strengths: Takes each task's `perturbation_strength`, unless it holds it.
        skipped: Ids of those that could not be scored before and are not asked for again.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        order: Sequence[str],
        config: ScoreConfig,
        files: TableFiles,
        version: str,
        strengths: dict[str, float | None] | None = None,
        skipped: Iterable[str] = (),
    ) -> None:
        self._tasks = tasks
        self._order = order
        self._config = config
        self._files = files
        self._journal = ScoreJournal(files.journal, version)
        self._strengths = {} if strengths is None else strengths
        self._skipped = set(skipped)

    def ask(
        self,
        engine: Engine,
        on_score: Callable[[int, str], None] | None = None,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> None:
        """Journals the scores of all tasks.

        Args:
            on_score: Called with the number of finished tasks and the name of the latest, or "" at
                the start.
            on_skip: Called with every task that cannot be scored; without it, that is an error.

        Raises:
            InputError: If the engine finds fault with a task, or the journal cannot be read.
            EngineError: If the engine fails, or answers with other weights.
        """
        tell = on_score or (lambda done, name: None)
        finished = {score.task_id for score in self._journal.scores()} | self._skipped
        tell(len(finished), "")
        if finished.issuperset(self._order):
            return
        asked: dict[str, Task] = {}

        def left() -> Iterator[Task]:
            for task in self._tasks:
                if task.id not in finished:
                    asked[task.id] = task
                    yield task

        def skip(task: SkippedTask) -> None:
            assert on_skip is not None
            self._skipped.add(task.task_id)
            on_skip(task)

        with self._journal as journal:
            for score in engine.score(left(), self._config, skip if on_skip else None):
                if score.weights_version != journal.weights_version:
                    raise EngineError(
                        f"the weights changed from {journal.weights_version} to "
                        f"{score.weights_version} at {score.task_id}"
                    )
                journal.append(score)
                finished.add(score.task_id)
                self._note_strength(asked.pop(score.task_id))  # while the engine is at others
                tell(len(finished), score.task_id)

    def write(self, *beside: pl.DataFrame, measure: bool = False) -> pl.DataFrame:
        """All tables, from the journal; the content of the scores' own.

        Args:
            beside: Tables whose columns it has behind its own.
            measure: Whether it has every other measure of pairs and of the question's rows, too.

        Raises:
            EngineError: If a task has no score, or there is none.
        """
        order = [task_id for task_id in self._order if task_id not in self._skipped]
        if not order:
            raise EngineError("no task could be scored")
        if not self._strengths.keys() >= set(order):  # those that an earlier call scored
            for task in self._tasks:
                self._note_strength(task)
        question = find_question(self._config)
        tables = build_tables(self._journal.scores(), order, question)
        measures = []
        if measure:
            needs = pairs_input(self._config)
            measures.append(compute_measures(tables.pairs, needs, source=self._files.pairs))
        measures.append(ranking_columns(tables.pairs, self._strengths))
        if question and tables.rows is not None:
            path = self._files.questions[question.name]
            if measure:
                needs = question.input.name
                measures.append(compute_measures(tables.rows, needs, source=path))
            write_parquet(path, tables.rows)
        table = with_columns_of(tables.scores, *measures, *beside)
        write_parquet(self._files.pairs, tables.pairs)
        write_parquet(self._files.scores, table)
        return table

    def _note_strength(self, task: Task) -> None:
        if task.id not in self._strengths:
            self._strengths[task.id] = perturbation_strength(task, self._config)
