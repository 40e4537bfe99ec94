"""Scores of a whole pool on disk: what `jostle score` does.

OUT.parquet            one row per task: measures, map category, category, definition
OUT.pairs.parquet      every scored pair, from which any other measure is computed
OUT.TABLE.parquet      what a question brought, where the measure asks one (samples, labels, ...)
OUT.settings.json      what the scores depend on
OUT.journal.jsonl      finished tasks, a line each; scoring that broke off goes on from here
OUT.lock               which process is at it
OUT.engine.log         output of the engine, if one was started
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine.errors import EngineError, InputError
from engine.pools.lazy import LazyPool
from engine.pools.writing import write_left_out
from engine.protocol.api import SkippedTask
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import missing_gold
from engine.questions.question_registry import find_question
from engine.tasks import Task, check_task, digest_tasks
from training.tables.journaled_scoring import JournaledScoring
from training.tables.overwriting import AskedOf, WorkFiles
from training.tables.question_tables import question_files
from training.tables.task_columns import task_row, task_table


class ScoreFiles(WorkFiles):
    """The files of one scoring.

    Args:
        scores: `OUT.parquet`.

    Raises:
        InputError: If it does not end in `.parquet`.
    """

    def __init__(self, scores: Path) -> None:
        if scores.suffix != ".parquet":
            raise InputError("the output's name must end in .parquet", file=scores)
        super().__init__(scores, "scoring")
        self.scores = scores
        self.pairs = self._beside("pairs.parquet")
        self.questions = question_files(lambda table: self._beside(f"{table}.parquet"))

    def written(self) -> tuple[Path, ...]:
        return (self.pairs, *self.questions.values(), *super().written())


class ScoreSettings(AskedOf):
    """Content of `OUT.settings.json`: everything the scores depend on.

    Attributes:
        pool: Where the tasks came from.
        pool_digest: sha256 over the tasks.
        config: The design, prompts and perturbations.
    """

    pool: str
    pool_digest: str
    config: ScoreConfig


@dataclass(frozen=True)
class PoolSurvey:
    """What is known of a pool once it has been gone through.

    Attributes:
        tasks: `task_id` and `TASK_COLUMNS`, in pool order.
        digest: sha256 over all tasks.
        hashes: Of each task, by its id.
        n_pairs: Pairs that scoring takes, those of a question included.
        n_samples: Outputs that it samples.
    """

    tasks: pl.DataFrame
    digest: str
    hashes: dict[str, int]
    n_pairs: int
    n_samples: int


def survey_pool(pool: LazyPool, config: ScoreConfig) -> PoolSurvey:
    """Goes through a pool once, so that bad input fails before anything is started.

    Raises:
        InputError: The first fault; a task without instances; a missing gold output, if these are
            to be scored.
    """
    rows: list[dict[str, Any]] = []
    hashes: dict[str, int] = {}
    n_pairs = n_samples = 0
    question = find_question(config)

    def watched() -> Iterator[Task]:
        nonlocal n_pairs, n_samples
        for task in _measurable(pool, config):
            n_pairs += config.n_prompts(len(task.instances))
            if question:
                asked = question.n_asked(task, config)
                n_pairs, n_samples = n_pairs + asked.pairs, n_samples + asked.samples
            rows.append(task_row(task))
            hashes[task.id] = hash(task)
            yield task

    digest = digest_tasks(watched())
    if not rows:
        why = "".join(f" that is in order; the first fault: {one}" for one in pool.faults.found[:1])
        raise InputError(f"holds no task{why}", file=pool.source)
    return PoolSurvey(task_table(rows), digest, hashes, n_pairs, n_samples)


@dataclass(frozen=True)
class _SurveyedTasks:
    """The tasks of a pool, as often as they are gone through; an error if they are other ones."""

    pool: LazyPool
    hashes: dict[str, int]

    def __iter__(self) -> Iterator[Task]:
        problem = "changed while it was read; --overwrite scores it anew"
        n_tasks = 0
        for task in self.pool:
            if self.hashes.get(task.id) != hash(task):
                raise InputError(problem, file=self.pool.source, record=task.id)
            n_tasks += 1
            yield task
        if n_tasks < len(self.hashes):
            raise InputError(problem, file=self.pool.source)


def _measurable(pool: LazyPool, config: ScoreConfig) -> LazyPool:
    """The pool in which tasks are at fault, too, that lack what is to be scored."""
    question = find_question(config)

    def check(task: Task) -> None:
        check_task(task)
        if question and (fault := question.fault(task, config)):
            raise fault
        if config.reference == "gold" and (fault := missing_gold(task, config)):
            raise fault

    return pool.where(check)


def score_pool(
    pool: LazyPool,
    survey: PoolSurvey,
    engine: Engine,
    config: ScoreConfig,
    files: ScoreFiles,
    on_score: Callable[[int, str], None] | None = None,
    *,
    skip_faulty: bool = False,
) -> pl.DataFrame:
    """Scores a pool, or goes on where an earlier call broke off; the content of `OUT.parquet`.

    Args:
        survey: What `survey_pool` says of them.
        on_score: Called with the number of finished tasks and the name of the latest, or "" at the
            start.
        skip_faulty: Leave tasks out that cannot be scored, and write them to `OUT.skipped.jsonl`
            with what the pool has left out.

    Raises:
        InputError: If an unfinished scoring of something else is there, or the engine finds fault
            with a task, or the pool changed after the survey.
        EngineError: If the engine fails, or its weights change under way.
    """
    pool = _measurable(pool, config)
    weights = engine.weights()
    settings = ScoreSettings(
        pool=pool.source, pool_digest=survey.digest, weights=weights, config=config
    )
    files.begin(settings, free=("pool",))
    order = survey.tasks["task_id"].to_list()
    tasks = _SurveyedTasks(pool, survey.hashes)
    scoring = JournaledScoring(tasks, order, config, files, weights.version)
    skipped: list[SkippedTask] = []
    scoring.ask(engine, on_score, skipped.append if skip_faulty else None)
    if skip_faulty:
        faults = [InputError(s.reason, record=s.task_id, field=s.field) for s in skipped]
        write_left_out(files.skipped, [*pool.faults.found, *faults])
    if len(skipped) == len(order):
        raise EngineError(f"no task could be scored; {files.skipped} says why")
    return scoring.write(survey.tasks, measure=True)
