"""A race on disk: what `jostle race` does.

OUT                        ids of the selected tasks, one per line
OUT.race.json              pairs, interval and membership of every task
OUT.race.parquet           the same as a table, with the measures of those pairs
OUT.race.pairs.parquet     every scored pair, from which any other measure is computed
OUT.race.skipped.jsonl     instances and tasks left out, and why, where that was asked for
OUT.race.settings.json     what the race depends on
OUT.race.journal.jsonl     the engine's answers, a line each; a broken-off race goes on from here,
                           and a finished one with more to spend
OUT.race.lock              which process is at it
OUT.race.engine.log        output of the engine, if one was started
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import polars as pl

from engine.design.entries import RaceConfig
from engine.design.live_race import LiveTables
from engine.design.race_answers import RaceAnswer
from engine.design.race_plan import RaceResult, fit_instances, plan_race, run_race
from engine.design.race_rules import Race
from engine.errors import InputError
from engine.files import LineJournal, read_json, write_json
from engine.measures import map_categories
from engine.measures.compute import compute_measures
from engine.pools.checks import LeftOut
from engine.pools.names import write_names
from engine.pools.writing import write_left_out
from engine.prompts import PromptBuilder
from engine.protocol.engine_calls import Engine
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.tasks import Pool, Task, digest_tasks
from training.tables.overwriting import AskedOf, WorkFiles
from training.tables.score_tables import SCORE_COLUMNS, pair_table, pairs_input, with_noise
from training.tables.table_files import write_parquet
from training.tables.task_columns import task_row, task_table, with_columns_of

_OF_EVERY_SCORE = ("prediction_probability", "perplexity")


class RaceFiles(WorkFiles):
    """The files of one race; none of them is a scoring's of the same name.

    Args:
        selected: `OUT`.

    Raises:
        InputError: If it is no name of a file.
    """

    def __init__(self, selected: Path) -> None:
        if not selected.name:
            raise InputError("is a folder; name a file in it", file=selected)
        super().__init__(selected, "race", ".race")
        self.selected = selected
        self.result = self._beside("json")
        self.scores = self._beside("parquet")
        self.pairs = self._beside("pairs.parquet")

    def ended_with_less(self, budget: float) -> bool:
        """Whether a race is there that has ended and had less to spend."""
        whole = all(each.is_file() for each in (self.settings, self.journal, self.result))
        return whole and read_json(self.result, RaceResult).config.budget < budget

    def written(self) -> tuple[Path, ...]:
        return (self.result, self.scores, self.pairs, *super().written())


class RaceSettings(AskedOf):
    """Content of `OUT.settings.json`: everything the race depends on.

    Attributes:
        pool_digest: sha256 over the tasks.
        config: Prompts, perturbations and seed.
        race: How it is run.
        by_category: Whether each category races on its own.
    """

    pool_digest: str
    config: ScoreConfig
    race: RaceConfig
    by_category: bool

    @classmethod
    def of(
        cls,
        race: Race,
        tasks: Sequence[Task],
        weights: WeightsState,
        config: ScoreConfig,
        *,
        by_category: bool,
    ) -> Self:
        return cls(
            pool_digest=digest_tasks(tasks),
            weights=weights,
            config=config,
            # With more to spend it goes on all the same.
            race=race.config.model_copy(update={"budget": 0.0}),
            by_category=by_category,
        )


def plan_pool_race(
    pool: Pool,
    config: ScoreConfig,
    builder: PromptBuilder,
    rules: RaceConfig,
    files: RaceFiles,
    *,
    by_category: bool = False,
    left_out: LeftOut | None = None,
    on_task: Callable[[int], None] | None = None,
) -> tuple[Race, list[Task]]:
    """A race for the top N of a pool, and its tasks.

    The race names the tasks that cannot be measured; they are not among its tasks.

    Args:
        rules: How many are wanted, and the budget.
        by_category: Whether the top N of every category are wanted.
        left_out: Takes instances that cannot be scored, which are left out and written down with
            what it holds already.
        on_task: Called with the number of tasks whose prompts have been measured.

    Raises:
        InputError: If an instance cannot be scored, or with `left_out` none can, or the budget
            does not pay for the start.
    """
    tasks: list[Task] = []

    def fitting() -> Iterator[Task]:
        for task in pool:
            fit = fit_instances(
                task,
                config,
                builder,
                rules.max_perturbations,
                source=pool.source,
                on_fault=None if left_out is None else left_out.add,
            )
            if fit.instances:
                tasks.append(fit)
                yield fit

    race = plan_race(fitting(), config, builder, rules, by_category=by_category, on_task=on_task)
    if not tasks:
        if left_out is not None:
            write_left_out(files.skipped, left_out.found)
        raise InputError(f"no instance can be scored; {files.skipped} says why", file=pool.source)
    return race, [task for task in tasks if task.id not in race.unmeasurable]


def race_on_disk(
    race: Race,
    tasks: Sequence[Task],
    engine: Engine,
    config: ScoreConfig,
    builder: PromptBuilder,
    files: RaceFiles,
    *,
    by_category: bool = False,
    left_out: LeftOut | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> RaceResult:
    """Runs a race, or goes on where an earlier call broke off.

    A race decides by what it has been told and by nothing else, so one that broke off is run again
    from its start, with the answers that are known: only the others are asked of the engine. The
    budget may be another one.

    Args:
        race: The race, see `engine.design.race_plan.plan_race`.
        by_category: Whether the race was planned so.
        left_out: What was left out before; tasks at which the engine fails are, too, and written
            down with it. None: such a task is an error.
        on_progress: Called with the tokens that are spent, after each answer and each batch.

    Raises:
        InputError: If another unfinished race is there, or the engine finds fault with a task.
        EngineError: If the engine fails, or its weights change on the way.
    """
    weights = engine.weights()
    settings = RaceSettings.of(race, tasks, weights, config, by_category=by_category)
    files.begin(settings)
    if left_out is not None:
        write_left_out(files.skipped, left_out.found)
    result, pairs = race_with_journal(
        race,
        engine,
        tasks,
        config,
        builder,
        files.journal,
        weights.version,
        on_progress,
        skip_faulty=left_out is not None,
    )
    if left_out is not None:
        for each in result.skipped:
            left_out.add(InputError(each.reason, record=each.task_id, field=each.field))
        write_left_out(files.skipped, left_out.found)
    known = task_table(task_row(task) for task in tasks)
    write_parquet(files.pairs, pairs)
    write_parquet(files.scores, with_columns_of(race_scores(result, pairs, config), known))
    files.selected.unlink(missing_ok=True)  # of a race with less to spend
    write_json(files.result, result.model_dump(mode="json"))
    write_names(files.selected, result.selected)
    return result


def race_with_journal(
    race: Race,
    engine: Engine,
    tasks: Sequence[Task],
    config: ScoreConfig,
    builder: PromptBuilder,
    journal_file: Path,
    version: str,
    on_progress: Callable[[float], None] | None = None,
    *,
    skip_faulty: bool = False,
) -> tuple[RaceResult, pl.DataFrame]:
    """Runs a race with the answers of a journal, to which further ones are added.

    Args:
        engine: Asked for what the journal does not hold.
        journal_file: Of this very race.
        version: The weights that all answers must come from.
        on_progress: Called with the tokens that are spent, after each answer and each batch.
        skip_faulty: Go on without tasks at which the engine fails.

    Returns:
        Its result, and the pairs of all tasks that took part with the columns of `pairs.parquet`.

    Raises:
        InputError: If the journal cannot be read, or the engine finds fault with a task.
        EngineError: If the engine fails, or an answer comes from other weights.
    """
    journal = LineJournal(journal_file, RaceAnswer)
    known = tuple(journal.records())
    spent = 0.0

    def show(tokens: float) -> None:
        nonlocal spent
        spent = max(spent, tokens)
        if on_progress is not None:
            on_progress(spent)

    def keep(answer: RaceAnswer) -> None:
        journal.append(answer)
        show(tables.usage.tokens_computed)

    tables = LiveTables(
        engine,
        tasks,
        config,
        builder,
        max_perturbations=race.config.max_perturbations,
        version=version,
        answers=known,
        on_answer=keep,
        skip_faulty=skip_faulty,
    )
    if known:  # at once: replayed in steps it would pass for a pace
        show(tables.usage.tokens_computed)
    with journal:
        result = run_race(race, tables, on_batch=lambda now: show(now.tokens))
    ids = [standing.task_id for standing in result.standings]
    return result, pair_table((task_id, tables.pairs(task_id), version) for task_id in ids)


def race_scores(result: RaceResult, pairs: pl.DataFrame, config: ScoreConfig) -> pl.DataFrame:
    """Where every task stands, with what `jostle score` measures of its pairs."""
    standings = pl.DataFrame([each.model_dump() for each in result.standings])
    known = with_columns_of(
        standings.with_columns(weights_version=pl.lit(pairs["weights_version"][0])),
        compute_measures(pairs, "pairs", _OF_EVERY_SCORE),
        compute_measures(pairs, pairs_input(config)),
    )
    unknown = SCORE_COLUMNS.keys() - {*known.columns, "map_category"}
    table = known.with_columns(
        map_categories(known).cast(pl.String).alias("map_category"),
        *(pl.lit(None, SCORE_COLUMNS[name]).alias(name) for name in unknown),
    )
    return with_noise(table, pairs)
