"""How the tasks of a round are scored: all by one design, or in a race within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import polars as pl

from engine.design.race_plan import RaceResult
from engine.files import read_json, write_json
from engine.prompts import PromptBuilder
from engine.protocol.api import Usage
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.tasks import Task
from training.config.run_config import RunConfig
from training.run.progress import Progress
from training.run.round_races import RoundRaces
from training.run.run_folder import RoundFolder
from training.run.state import RunStep
from training.run.summary import skipped_in_words, uncertainty_in_words, unmeasurable_in_words
from training.selection import check_measured
from training.tables.journaled_scoring import JournaledScoring, score_columns
from training.tables.pool_racing import race_scores, race_with_journal
from training.tables.score_journal import ScoreJournal, SkipJournal
from training.tables.table_files import write_parquet
from training.tables.task_columns import TASK_COLUMNS


class ToScore(NamedTuple):
    """What is scored in a round: the tasks not yet trained on, under the weights that are live."""

    engine: Engine
    folder: RoundFolder
    tasks: Sequence[Task]
    version: str


class RoundScoring(Protocol):
    """Leaves `scores.parquet` and `pairs.parquet`; what its journal holds is not asked again.

    Where faulty tasks are skipped, those at which the engine fails are in `skipped.jsonl` instead.
    """

    def score(self, asked: ToScore, progress: Progress) -> str:
        """Score the tasks of a round; what came of it, as a phrase.

        Raises:
            InputError: If the engine finds fault with a task that is not skipped, or a journal
                cannot be read.
            EngineError: If the engine fails, or answers with other weights.
        """
        ...

    def usage(self, folder: RoundFolder, version: str) -> Usage:
        """What the scoring of a round has cost."""
        ...


def check_selection(config: RunConfig) -> None:
    """That a run's scores will have what its strategy goes by.

    Raises:
        InputError: If they will not.
    """
    # Those of a race are known when it is over.
    columns = score_columns(config.score) if config.select.race is None else None
    known = None if columns is None else columns | {*TASK_COLUMNS}
    check_measured(config.select.strategy, config.score, known)


class DesignScoring:
    """All tasks by the design of `score`."""

    def __init__(self, config: ScoreConfig, *, skip_faulty: bool = False) -> None:
        self._config = config
        self._skip_faulty = skip_faulty
        self._strengths: dict[str, float | None] = {}  # they are the same in every round

    def score(self, asked: ToScore, progress: Progress) -> str:
        engine, folder, tasks, version = asked
        order = [task.id for task in tasks]
        skips = SkipJournal(folder.skipped, version)
        scoring = JournaledScoring(
            tasks, order, self._config, folder, version, self._strengths, skips.ids()
        )
        progress.begin(folder.index, RunStep.SCORE, len(tasks), "tasks")
        scoring.ask(
            engine,
            lambda done, name: progress.advance(done, detail=name),
            skips.note if self._skip_faulty else None,
        )
        written = scoring.write(measure=True)
        return uncertainty_in_words(written) + skipped_in_words(len(skips.ids()))

    def usage(self, folder: RoundFolder, version: str) -> Usage:
        return Usage.total(score.usage for score in ScoreJournal(folder.journal, version).scores())


class RaceScoring:
    """Pairs go where it is open which tasks are the most uncertain; leaves `race.json` too."""

    def __init__(
        self,
        config: ScoreConfig,
        races: RoundRaces,
        builder: PromptBuilder,
        *,
        skip_faulty: bool = False,
    ) -> None:
        self._config = config
        self._skip_faulty = skip_faulty
        self._races = races
        self._builder = builder

    def score(self, asked: ToScore, progress: Progress) -> str:
        engine, folder, tasks, version = asked
        rules = self._races.config
        progress.begin(folder.index, RunStep.SCORE, round(rules.budget), "tokens")
        race = self._races.race(tasks)
        racing = [task for task in tasks if task.id not in race.unmeasurable]
        result, pairs = race_with_journal(
            race,
            engine,
            racing,
            self._config,
            self._builder,
            folder.race_journal,
            version,
            lambda tokens: progress.advance(round(tokens)),
            skip_faulty=self._skip_faulty,
        )
        skips = SkipJournal(folder.skipped, version)
        known = skips.ids()
        for task in result.skipped:
            if task.task_id not in known:
                skips.note(task)
        scores = race_scores(result, pairs, self._config)
        write_json(folder.race, result.model_dump(mode="json"))
        write_parquet(folder.pairs, pairs)
        write_parquet(folder.scores, scores.with_columns(selected=pl.lit(None, pl.Boolean)))
        return (
            f"{len(result.standings)} tasks, {pairs.height:,} pairs, {result.tokens:,.0f} tokens, "
            f"{len(result.open)} memberships of the top {rules.n_select} are open"
            f"{unmeasurable_in_words(len(race.unmeasurable))}{skipped_in_words(len(result.skipped))}"
        )

    def usage(self, folder: RoundFolder, version: str) -> Usage:
        return read_json(folder.race, RaceResult).usage
