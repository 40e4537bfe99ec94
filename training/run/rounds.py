"""The loop: score, select, train, publish, reload, evaluate, round after round.

Each step reads the records of the steps before it and leaves records of its own; only then is it
marked as done in `state.json`. A run that is started again goes on at the first step that is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.files import write_json
from engine.prompts import PromptBuilder
from engine.protocol.api import Usage
from engine.protocol.engine_calls import Engine
from engine.tasks import Pool
from engine.variance.overlap import repeat_in_words
from training.config.run_config import RunConfig
from training.evaluation.evaluator import Evaluation, Evaluator, build_evaluation_set
from training.run.base_model import check_base
from training.run.finetune import Train, fine_tune, read_rows, rows_of
from training.run.live_engine import check_model, check_version, make_live, require_live
from training.run.progress import Progress, Silent
from training.run.pruning import prune
from training.run.round_races import RoundRaces
from training.run.round_scoring import (
    DesignScoring,
    RaceScoring,
    RoundScoring,
    ToScore,
    check_selection,
)
from training.run.run_folder import RunFolder
from training.run.run_pools import draw_initial, take_validation
from training.run.state import RunStep, open_run, save_state
from training.run.summary import (
    BeforeMetrics,
    RoundMetrics,
    TrainingMetrics,
    mean_uncertainty,
)
from training.selection import Strategy, select
from training.selection.ranking import Column, PromptUncertainty
from training.tables.score_journal import SkipJournal
from training.tables.table_files import write_parquet
from training.tables.task_columns import task_row, task_table
from training.trainer.checkpoint import publish
from training.trainer.resume import read_result
from training.trainer.trainer_process import TrainProgress, run_trainer


class Run:
    """One run, new or resumed.

    Args:
        config: The resolved config.
        pool: The tasks to score and train on.
        engine: A client of an engine that serves the base model, or weights of this run.
        base_model: Folder or hub id that `config.model.name` stands for.
        races: Those of `select.race`, if their costs have been counted already.

    Raises:
        InputError: If the folder belongs to another run, the strategy needs what is not measured,
            a held-out task cannot be evaluated, the rounds cannot be raced for, or the engine
            serves another model than the run began with.
        EngineError: If the engine cannot be reached.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        *,
        pool: Pool,
        held_out: Pool,
        engine: Engine,
        builder: PromptBuilder,
        base_model: str,
        progress: Progress | None = None,
        train: Train = run_trainer,
        races: RoundRaces | None = None,
    ) -> None:
        check_selection(config)
        self.folder = folder
        self.config = config
        self.pool, self.validation = take_validation(
            pool, config.train.validation_tasks, config.evaluate.seed
        )
        self.engine = engine
        self.builder = builder
        self.base_model = base_model
        self.progress = progress or Silent()
        self.train = train
        skip = config.pool.skip_faulty
        self.scoring: RoundScoring = DesignScoring(config.score, skip_faulty=skip)
        if config.select.race is not None:
            races = races or RoundRaces(self.pool, config, builder)
            self.scoring = RaceScoring(config.score, races, builder, skip_faulty=skip)
        self.evaluator = Evaluator(
            build_evaluation_set(held_out, builder, config.evaluate), config.evaluate.max_new_tokens
        )
        if len(self.validation):  # what has no row is told before anything is scored
            rows_of(self.validation, builder, config, config.train.validation_instances)
        weights = engine.weights()
        self.state = open_run(folder, config, pool, held_out, weights)
        check_model(weights, self.state)

    def run(self, n_steps: int | None = None) -> None:
        """Do all steps that are not done.

        Args:
            n_steps: Stop when so many steps of the plan are done; none: at its end.

        Raises:
            InputError: If a record cannot be read or written, or the base model has changed.
            EngineError: If the engine fails, or other weights are live than ought to be.
            TrainingError: If the trainer fails.
        """
        while not self.state.is_done(n_steps):
            assert self.state.current_round is not None
            assert self.state.current_step is not None
            self._do(self.state.current_round, self.state.current_step)

    def _do(self, index: int, step: RunStep) -> None:
        """One step, and then its record."""
        actions: dict[RunStep, Callable[[int], tuple[str, str]]] = {
            RunStep.BEFORE: self._before,
            RunStep.SCORE: self._score,
            RunStep.SELECT: self._select,
            RunStep.TRAIN: self._train,
            RunStep.PUBLISH: self._publish,
            RunStep.RELOAD: self._reload,
            RunStep.EVALUATE: self._evaluate,
        }
        started = time.monotonic()
        version, summary = actions[step](index)
        seconds = time.monotonic() - started
        self.state = self.state.complete(seconds, version)
        if step == RunStep.EVALUATE:  # before the state: nothing is left to do behind a done run
            prune(self.folder, self.state, self.config.checkpoints)
        save_state(self.folder, self.state)
        self.progress.end(index, step, seconds, summary)

    def _before(self, index: int) -> tuple[str, str]:
        version = require_live(self.engine, self.folder, self.state)
        evaluation = self._evaluate_live(index, RunStep.BEFORE, version)
        metrics = BeforeMetrics(weights_version=version, evaluation=evaluation)
        write_json(self.folder.before, metrics.model_dump(mode="json"))
        return version, _evaluation_phrase(evaluation)

    def _score(self, index: int) -> tuple[str, str]:
        """Score all tasks not yet trained on."""
        version = require_live(self.engine, self.folder, self.state)
        trained = set(self.folder.trained_tasks(index))
        tasks = [task for task in self.pool if task.id not in trained]
        asked = ToScore(self.engine, self.folder.round(index), tasks, version)
        return version, self.scoring.score(asked, self.progress)

    def _select(self, index: int) -> tuple[str, str]:
        self.progress.begin(index, RunStep.SELECT, None, "tasks")
        round_folder = self.folder.round(index)
        if self.state.initial and index == 0:
            selection = draw_initial(
                self.pool, self.config.initial.n_tasks, self.config.seed, self.state.live_version
            )
            write_json(round_folder.selection, selection.model_dump(mode="json"))
            return self.state.live_version, f"{len(selection.tasks)} tasks drawn at random"
        scores = round_folder.read_scores()
        chosen = self.config.select
        tasks = task_table(task_row(task) for task in self.pool)
        known = scores.join(tasks, on="task_id", how="left", maintain_order="left")
        strategy: Strategy = chosen.strategy
        if chosen.race is not None and isinstance(strategy, PromptUncertainty):
            strategy = Column(column="ranking_estimate", direction=strategy.direction)
        selection = select(known, strategy, chosen.n_tasks, self.config.seed)
        write_json(round_folder.selection, selection.model_dump(mode="json"))
        selected = scores["task_id"].is_in(list(selection.task_ids)).alias("selected")
        write_parquet(round_folder.scores, scores.with_columns(selected))
        named, others = selection.task_ids[:3], len(selection.task_ids[3:])
        rest = f" and {others} more" if others else ""
        if len(selection.tasks) < selection.n_asked:
            rest += f"; {len(selection.tasks)} of {selection.n_asked} asked for"
        if selection.strategy == "prompt_uncertainty" and (
            repeat := repeat_in_words(scores, selection.task_ids)
        ):
            rest += f"; {repeat}"
        return self.state.live_version, ", ".join(named) + rest

    def _train(self, index: int) -> tuple[str, str]:
        self.progress.begin(index, RunStep.TRAIN, None, "steps")
        check_base(self.state, self.base_model)
        result = fine_tune(
            self.folder,
            self.config,
            index,
            pool=self.pool,
            validation=self.validation,
            builder=self.builder,
            base_model=self.base_model,
            train=self.train,
            on_progress=self._on_training,
        )
        rows = read_rows(self.folder.round(index).training)
        return self.state.live_version, result.summary + rows.left_out_in_words

    def _on_training(self, seen: TrainProgress) -> None:
        self.progress.advance(seen.step, seen.total or None, seen.detail)

    def _publish(self, index: int) -> tuple[str, str]:
        self.progress.begin(index, RunStep.PUBLISH, None, "files")
        round_folder = self.folder.round(index)
        result = read_result(round_folder.training)
        manifest = publish(result, round_folder.checkpoint, index)
        return manifest.version, manifest.version

    def _reload(self, index: int) -> tuple[str, str]:
        """Make the round's checkpoint live, and believe it only when the engine says so itself."""
        self.progress.begin(index, RunStep.RELOAD, None, "weights")
        version = self.state.published_version(index)
        make_live(self.engine, self.folder.round(index).checkpoint, version)
        return version, version

    def _evaluate(self, index: int) -> tuple[str, str]:
        version = require_live(self.engine, self.folder, self.state)
        round_folder = self.folder.round(index)
        result = read_result(round_folder.training)
        rows = read_rows(round_folder.training)
        uncertainty, scoring = None, Usage()
        skipped: tuple[str, ...] = ()
        if round_folder.scores.is_file():
            scores = round_folder.read_scores()
            uncertainty = mean_uncertainty(scores)
            scored = scores["weights_version"][0]
            scoring = self.scoring.usage(round_folder, scored)
            skipped = tuple(SkipJournal(round_folder.skipped, scored).ids())
        evaluation = self._evaluate_live(index, RunStep.EVALUATE, version)
        metrics = RoundMetrics(
            round=index,
            weights_version=version,
            selected=round_folder.read_selection().task_ids,
            mean_prompt_uncertainty=uncertainty,
            scoring=scoring,
            skipped=skipped,
            training=TrainingMetrics(
                rows=rows,
                steps=result.steps,
                seconds=result.seconds,
                seconds_per_step=result.seconds_per_step,
                first_loss=result.losses[0],
                last_loss=result.losses[-1],
            ),
            evaluation=evaluation,
        )
        write_json(round_folder.metrics, metrics.model_dump(mode="json"))
        return version, _evaluation_phrase(evaluation)

    def _evaluate_live(self, index: int, step: RunStep, version: str) -> Evaluation:
        self.progress.begin(index, step, self.evaluator.n_tasks, "tasks")
        for done, task_id in self.evaluator.run(self.engine):
            self.progress.advance(done, detail=task_id)
        check_version(self.engine.weights().version, version, "the evaluation")
        return self.evaluator.result()


def _evaluation_phrase(evaluation: Evaluation) -> str:
    overall = evaluation.overall
    return f"ROUGE-L {overall.rouge_l:.1f}, exact match {overall.exact_match:.1f}"
