"""A task whose prompts no perturbation changes is said to be unmeasurable, never certain."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from engine.design.choose import design_for_pool
from engine.design.entries import RaceConfig
from engine.design.ranking_columns import components_of_pairs, ranking_columns
from engine.errors import InputError
from engine.measures import map_categories
from engine.measures.compute import compute_measures
from engine.measures.stability import map_stability
from engine.perturb import DropWords, LetterCase, OrderExamples, Paraphrase, ResampleExamples
from engine.perturb.base import Step
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import ScoreConfig
from engine.questions.question_registry import find_question
from engine.tasks import Task
from engine.variance.pair_grid import PairGrid
from engine.variance.pooling import standard_errors
from tests.engine.design.test_live_race import CONFIG, Engine, make_builder, race
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend
from tests.engine.questions.in_memory import design, score_all
from training.tables.score_tables import build_tables, pair_table


def bare(definition: str = "Translate", task_id: str = "bare") -> Task:
    return make_task(task_id, definition=definition, n_positive=0, n_negative=0)


FIVE_WORDS = "Say the color of it"


@pytest.mark.parametrize(
    ("task", "step"),
    [
        (bare(), DropWords()),
        (bare("猫"), DropWords()),
        (bare("请把下面的句子翻译成英文。"), LetterCase()),
        (bare(FIVE_WORDS), DropWords(rate=0)),
        (bare(FIVE_WORDS), DropWords(targets=("example_inputs",))),
        (bare(FIVE_WORDS), DropWords(targets=())),
        (bare(FIVE_WORDS), OrderExamples()),
        (make_task(n_positive=1, n_negative=1), OrderExamples()),
        (make_task(n_positive=1, n_negative=1), ResampleExamples()),
        (bare(FIVE_WORDS), Paraphrase(texts={FIVE_WORDS: (FIVE_WORDS,) * 3})),
    ],
    ids=lambda value: getattr(value, "name", None) or getattr(value, "definition", "")[:9],
)
def test_prompts_that_never_change_measure_nothing(task: Task, step: Step) -> None:
    backend = FakeBackend()
    (score,) = score_all([task], design(perturbation=step), backend)
    assert score.prompt_uncertainty is None
    assert '"prompt_uncertainty":null' in score.model_dump_json()
    assert {pair.perturbation for pair in score.pairs} == {0}
    assert score.usage.pairs == 0
    assert 0 < score.prediction_probability < 1


def test_blanks_at_the_ends_are_no_wording() -> None:
    prompt = PromptConfig(layout="template", template="{{ definition }}{{ input }}")
    (score,) = score_all([bare(" Translate\n")], design(prompt=prompt))
    assert score.prompt_uncertainty is None


def test_perturbations_that_happen_to_change_nothing_are_moves_of_zero() -> None:
    config = design(n=1, k=12, perturbation=DropWords(rate=0.3))
    (score,) = score_all([bare("Say it")], config)
    moves = PairGrid.of(score.pairs).moves
    assert moves.shape == (1, 12)
    assert 0 < (moves == 0).sum() < 12
    assert score.prompt_uncertainty == pytest.approx(moves.mean())


@pytest.mark.parametrize("measure", ["output_disagreement", "label_bald"])
def test_further_measures_are_missing_too(measure: Any) -> None:
    task = bare().model_copy(update={"labels": ("blue", "red")})
    other = make_task(n_positive=1).model_copy(update={"labels": ("blue", "red")})
    alone, score = score_all([task, other], design(measure=measure))
    question = find_question(design(measure=measure))
    scores = build_tables((score, alone), ["bare", "colors"], question).scores
    name = "output_rouge_distance" if measure == "output_disagreement" else "label_entropy"
    for column in (measure, f"{measure}_error", name, "prompt_uncertainty", "standard_error"):
        values = scores[column].to_list()
        assert values[0] is None, column
        assert isinstance(values[1], float), column


def make_pairs(config: ScoreConfig | None = None) -> pl.DataFrame:
    tasks = [bare(), *(make_task(f"t{n}", definition=f"Say color {n}") for n in range(4))]
    scores = score_all(tasks, config or design())
    return pair_table((one.task_id, one.pairs, "v") for one in scores)


def test_tables_say_null_and_the_others_are_as_without_it() -> None:
    pairs = make_pairs()
    others = pairs.filter(pl.col("task_id") != "bare")
    found = compute_measures(pairs)
    assert found["task_id"][0] == "bare"
    known = {name for name, value in found.row(0, named=True).items() if value is not None}
    assert known == {"task_id", "prediction_probability", "perplexity"}
    assert_frame_equal(found[1:], compute_measures(others))
    assert_frame_equal(ranking_columns(pairs), ranking_columns(others))
    assert components_of_pairs(pairs) == components_of_pairs(others)
    assert_frame_equal(map_stability(pairs), map_stability(others))
    categories = map_categories(found)
    assert categories[0] == "unmeasurable"
    assert categories[1:].to_list() == map_categories(found[1:]).to_list()


def test_a_pool_of_which_nothing_can_be_measured() -> None:
    pairs = make_pairs().filter(pl.col("task_id") == "bare")
    assert ranking_columns(pairs).is_empty()
    assert map_stability(pairs).is_empty()
    assert map_categories(compute_measures(pairs)).to_list() == ["unmeasurable"]
    with pytest.raises(InputError, match="no perturbed pair"):
        components_of_pairs(pairs)


def test_errors_are_missing_and_the_pool_s_are_as_without_it() -> None:
    scores = score_all(
        [bare(), *(make_task(f"t{n}", definition=f"Say {n}") for n in range(3))], design()
    )
    tables = [PairGrid.of(score.pairs).moves for score in scores]
    assert tables[0].shape == (2, 0)
    assert standard_errors(tables) == [None, *standard_errors(tables[1:])]


def test_a_race_leaves_it_out_and_names_it() -> None:
    engine = Engine()
    tasks = [make_task(f"t{n}", definition=f"Say the color {n}", n_instances=6) for n in range(6)]
    rules = RaceConfig(n_select=2, budget=30_000)
    expected = race(engine, tasks, rules)
    found = race(Engine(), [tasks[0], bare(), *tasks[1:]], rules)
    assert found.unmeasurable == ("bare",)
    assert found.standings == expected.standings
    with pytest.raises(InputError, match="no perturbation changes a prompt of any task"):
        race(Engine(), [bare()], rules)


def test_a_race_takes_a_first_draw_that_changes_nothing_for_a_move_of_zero() -> None:
    """With two words a perturbation in four changes nothing, and a race begins with one."""
    tasks = [bare("Say it", f"t{n}") for n in range(12)]
    found = race(Engine(), tasks, RaceConfig(n_select=2, budget=6_000))
    assert len(found.standings) == 12
    assert any(one.prompt_uncertainty == 0 for one in found.standings)


def test_a_design_is_chosen_for_the_others() -> None:
    builder = make_builder(Engine())
    tasks = [make_task(f"t{n}", definition=f"Say the color {n}") for n in range(3)]
    alone = design_for_pool(tasks, CONFIG, builder, 20_000)
    assert design_for_pool([*tasks, bare()], CONFIG, builder, 20_000) == alone
    with pytest.raises(InputError, match="no task that a perturbation changes"):
        design_for_pool([bare()], CONFIG, builder, 20_000)
