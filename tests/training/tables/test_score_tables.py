"""The tables of a scored pool: what depends on all tasks is computed over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.pools import open_pool
from engine.pools.lazy import LazyPool
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.protocol.weights_state import WeightsState
from engine.questions.output_question import OutputQuestion
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid
from engine.variance.pooling import standard_errors
from tests.engine.no_engine import NoEngine
from tests.engine.weights.served import live
from tests.training.http_engine import fake_score
from training.tables.pool_scoring import ScoreFiles, score_pool, survey_pool
from training.tables.score_tables import build_tables

N_TASKS = 502
CONFIG = ScoreConfig(n_instances=2, n_perturbations=2, measure="output_disagreement")


class Engine(NoEngine):
    """Answers from the last task to the first."""

    def score(
        self,
        tasks: Iterable[Task],
        config: ScoreConfig,
        on_skip: Callable[[SkippedTask], None] | None = None,
    ) -> Iterator[TaskScore]:
        for task in reversed(list(tasks)):
            yield fake_score(task, config, "base")

    def weights(self) -> WeightsState:
        return live("base")


def make_pool(folder: Path, n_tasks: int = N_TASKS) -> LazyPool:
    tasks = [
        Task.model_validate(
            {
                "id": f"task-{index}",
                "definition": "say color of",
                "instances": [
                    {"id": name, "input": name, "outputs": ["blue"]} for name in ("sky", "sea")
                ],
            }
        )
        for index in range(n_tasks)
    ]
    path = folder / "pool.jsonl"
    path.write_text("".join(task.model_dump_json() + "\n" for task in tasks))
    return open_pool(str(path))


@pytest.mark.slow
def test_standard_errors_are_pooled_over_all_tasks(tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    files = ScoreFiles(tmp_path / "s.parquet")
    table = score_pool(pool, survey_pool(pool, CONFIG), Engine(), CONFIG, files)
    scores = [fake_score(task, CONFIG, "base") for task in pool]
    expected = standard_errors([PairGrid.of(score.pairs).moves for score in scores])
    assert table["standard_error"].to_list() == expected
    samples = [score.answers["output_disagreement"].rows for score in scores]
    expected = standard_errors([OutputQuestion().grid(each) for each in samples])
    assert table["output_disagreement_error"].to_list() == expected


@pytest.mark.parametrize(
    ("change", "record"),
    [
        (lambda lines: lines[:2], None),
        (lambda lines: [*lines, lines[0].replace("task-0", "task-3")], "task-3"),
        (lambda lines: [lines[0].replace("say", "tell"), *lines[1:]], "task-0"),
    ],
)
def test_a_pool_that_changes_under_way_is_not_scored(
    tmp_path: Path, change: Callable[[list[str]], list[str]], record: str | None
) -> None:
    pool, files = make_pool(tmp_path, 3), ScoreFiles(tmp_path / "s.parquet")
    survey, path = survey_pool(pool, CONFIG), tmp_path / "pool.jsonl"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(InputError, match="changed while it was read") as told:
        score_pool(pool, survey, Engine(), CONFIG, files)
    assert told.value.record == record
    assert not files.scores.exists()


def test_no_standard_error_is_less_than_what_rounding_makes(tmp_path: Path) -> None:
    """Of pairs that hardly move, the second readings alone tell how sure their mean is."""
    scores = []
    for task in list(make_pool(tmp_path))[:3]:
        score = fake_score(task, CONFIG.model_copy(update={"measure": "prompt_uncertainty"}), "v")
        pairs = [
            pair.model_copy(
                update={
                    "logprob": -3.0,
                    "probability": math.exp(-1),
                    "second_logprob": None if pair.perturbation else -3.3,
                }
            )
            for pair in score.pairs
        ]
        scores.append(score.model_copy(update={"pairs": tuple(pairs), "precision": "bfloat16"}))
    table = build_tables(scores, [score.task_id for score in scores]).scores
    off = math.exp(-1) - math.exp(-1.1)
    assert table["noise_floor"].to_list() == pytest.approx([off] * 3)
    # Two instances and four moves that are 0: the variance of a reading times 1/4.
    assert table["noise_error"].to_list() == pytest.approx([off / math.sqrt(2) / 2] * 3)
    assert table["standard_error"].to_list() == table["noise_error"].to_list()
    assert table["precision"].to_list() == ["bfloat16"] * 3
