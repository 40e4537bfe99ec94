"""The records of a run that nobody had to run: any number of tasks, any texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from engine.files import write_json
from engine.measures import map_categories
from engine.protocol.api import Usage
from engine.tasks import Example, Instance, Pool, Task
from tests.engine.weights.served import live
from training.config.run_config import RunConfig
from training.evaluation.evaluator import Evaluation, Score
from training.run.run_folder import RunFolder
from training.run.state import RunStep, open_run, plan, save_state
from training.run.summary import BeforeMetrics, RoundMetrics, RowsSummary, TrainingMetrics
from training.selection.selection_record import SelectedTask, Selection
from training.tables.score_tables import PAIR_COLUMNS, SCORE_COLUMNS
from training.tables.table_files import write_parquet

NASTY = (
    "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)>",
    "\"double\" and 'single' quotes, back\\slash, `${back}ticks` & &amp; \u2028 line",
    "שלום עולם, والنص من اليمين \u202e إلى اليسار",
    "emoji \N{GRINNING FACE} \N{FAMILY} and \U0001f469\u200d\U0001f680",
    "long " * 4_000,
)
"""Definitions that are data and must not be anything else."""


def make_task(index: int, definition: str) -> Task:
    return Task(
        id=f"task-{index}",
        definition=definition,
        category=f"kind-{index % 3}",
        positive_examples=(Example(input=f"in {index}", output="out"),),
        instances=tuple(
            Instance(id=f"i{n}", input=f"input {n} of {index}", outputs=("yes",)) for n in range(3)
        ),
    )


def make_tasks(n_tasks: int, definitions: Sequence[str] = ()) -> tuple[Task, ...]:
    plain = "Say which of these {} things is larger than all of the others, and why that is so."
    return tuple(
        make_task(index, definitions[index] if index < len(definitions) else plain.format(index))
        for index in range(n_tasks)
    )


def make_records(
    path: Path,
    tasks: Sequence[Task],
    *,
    n_rounds: int = 2,
    n_selected: int = 4,
    n_perturbations: int = 4,
    gain: float = 10.0,
    seed: int = 0,
) -> RunFolder:
    """A finished run, each round of which raised ROUGE-L by `gain`."""
    folder = RunFolder(path)
    config = RunConfig.model_validate(
        {
            "rounds": n_rounds,
            "seed": seed,
            "score": {"n_instances": 3, "n_perturbations": n_perturbations},
            "select": {"n_tasks": n_selected},
        }
    )
    held_out = Pool(make_tasks(6))
    state = open_run(folder, config, Pool(tasks), held_out, live("base"))
    before = BeforeMetrics(weights_version="base", evaluation=_evaluation(held_out, 20.0))
    write_json(folder.before, before.model_dump(mode="json"))
    trained: list[str] = []
    for index in range(n_rounds):
        left = [task for task in tasks if task.id not in trained]
        trained += _make_round(folder, index, left, config, held_out, 20 + gain * (index + 1))
    for round_index, step in plan(n_rounds):
        version = f"round-0{round_index}-abc" if step == RunStep.PUBLISH else "v"
        assert (state.current_round, state.current_step) == (round_index, step)
        state = state.complete(10.0 + round_index, version)
    save_state(folder, state)
    return folder


def _make_round(
    folder: RunFolder,
    index: int,
    tasks: Sequence[Task],
    config: RunConfig,
    held_out: Pool,
    rouge_l: float,
) -> list[str]:
    """Writes the records of a round; the ids of the tasks it selected."""
    round_folder = folder.round(index)
    k = config.score.n_perturbations
    rng = np.random.default_rng((config.seed, index))
    p = rng.uniform(0, 1, size=(len(tasks), 3, k + 1))
    u = np.abs(p[:, :, 1:] - p[:, :, :1]).mean(axis=(1, 2))
    order = np.argsort(-u)[: config.select.n_tasks]
    ids = [task.id for task in tasks]
    selected = [ids[place] for place in order]
    scores = pl.DataFrame(
        {
            "task_id": ids,
            "prompt_uncertainty": u,
            "standard_error": rng.uniform(0.02, 0.08, size=len(ids)),
            "prediction_probability": p[:, :, 0].mean(axis=1),
            "perplexity": 2.0,
            "n_instances": 3,
            "n_perturbations": k,
            "map_category": "easy",
            "selected": [task_id in set(selected) for task_id in ids],
            "weights_version": "v",
        },
        schema_overrides=SCORE_COLUMNS,
    )
    scores = scores.with_columns(map_categories(scores).cast(pl.String).alias("map_category"))
    write_parquet(round_folder.scores, scores)
    rows, columns = len(ids) * 3, k + 1
    pairs = pl.DataFrame(
        {
            "task_id": np.repeat(ids, 3 * columns),
            "instance_id": np.tile(np.repeat([f"i{n}" for n in range(3)], columns), len(ids)),
            "perturbation": np.tile(np.arange(columns), rows),
            "n_tokens": 2,
            "logprob": -1.0,
            "probability": p.reshape(-1),
            "weights_version": "v",
            "n_prompt_tokens": 20,
        },
        schema_overrides=PAIR_COLUMNS,
    )
    write_parquet(round_folder.pairs, pairs)
    fitted = {"finish_reason": "stop", "n_positive_examples": 1, "n_negative_examples": 0}
    references = [
        {"instance_id": f"i{n}", "text": f"answer <b>{n}</b>", **fitted} for n in range(3)
    ]
    lines = [json.dumps({"task_id": task_id, "references": references}) for task_id in ids]
    round_folder.journal.write_text("".join(line + "\n" for line in lines))
    selection = Selection(
        strategy="prompt_uncertainty",
        settings={},
        seed=0,
        n_asked=len(selected),
        n_candidates=len(ids),
        weights_version="v",
        tasks=tuple(
            SelectedTask(task_id=task_id, rank=rank, value=0.5, reason="U")
            for rank, task_id in enumerate(selected, 1)
        ),
    )
    write_json(round_folder.selection, selection.model_dump(mode="json"))
    n_trained = (index + 1) * config.select.n_tasks
    metrics = RoundMetrics(
        round=index,
        weights_version=f"round-0{index}-abc",
        selected=tuple(selected),
        mean_prompt_uncertainty=float(u.mean()),
        scoring=Usage(pairs=9, tokens_submitted=900, tokens_reused=600, tokens_generated=30),
        training=TrainingMetrics(
            rows=RowsSummary(tasks=tuple(str(n) for n in range(n_trained)), rows=8, tokens=80),
            steps=2,
            seconds=1.0,
            seconds_per_step=0.5,
            first_loss=2.0,
            last_loss=1.0,
        ),
        evaluation=_evaluation(held_out, rouge_l),
    )
    write_json(round_folder.metrics, metrics.model_dump(mode="json"))
    return selected


def _evaluation(held_out: Pool, rouge_l: float) -> Evaluation:
    tasks = {
        task.id: Score(rouge_l=rouge_l + place, exact_match=5.0, n_instances=3)
        for place, task in enumerate(held_out)
    }
    overall = Score(
        rouge_l=rouge_l + 2.5,
        exact_match=5.0,
        n_instances=18,
        rouge_l_interval=(rouge_l, rouge_l + 5),
        exact_match_interval=(1.0, 9.0),
    )
    return Evaluation(overall=overall, categories={}, kinds={}, tasks=tasks)
