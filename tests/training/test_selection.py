from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from tests.training.fakes import make_score
from training.records import build_scores
from training.selection import STRATEGIES, select_tasks

uncertainties = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=1, max_size=12)
names = st.sampled_from(sorted(STRATEGIES))


def make_frame(values: list[float]) -> pl.DataFrame:
    ids = [f"task-{index}" for index in range(len(values))]
    scores = {name: make_score(name, value) for name, value in zip(ids, values, strict=True)}
    return build_scores(scores, ids)


@given(uncertainties, names, st.integers(1, 15), st.integers(0, 3))
def test_selection_is_seeded_bounded_and_without_repeats(
    values: list[float], name: str, n_tasks: int, seed: int
) -> None:
    frame = make_frame(values)
    selection = select_tasks(frame, name, n_tasks, seed)
    assert selection == select_tasks(frame, name, n_tasks, seed)
    assert len(selection.task_ids) == len(set(selection.task_ids)) == min(n_tasks, len(values))
    assert set(selection.task_ids) <= set(frame["task_id"])
    assert [task.rank for task in selection.tasks] == list(range(1, len(selection.tasks) + 1))


@given(uncertainties, st.integers(1, 15))
def test_high_uncertainty_first_and_ties_in_pool_order(values: list[float], n_tasks: int) -> None:
    selection = select_tasks(make_frame(values), "prompt_uncertainty", n_tasks, 0)
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    assert list(selection.task_ids) == [f"task-{index}" for index in order[:n_tasks]]
    assert all(f"{task.value:.4f}" in task.reason for task in selection.tasks)


def test_random_draws_depend_on_the_seed_and_not_on_the_other_tasks() -> None:
    frame = make_frame([0.1] * 10)
    all_ranked = select_tasks(frame, "random", 10, 5).task_ids
    assert select_tasks(frame, "random", 10, 6).task_ids != all_ranked
    fewer = frame.filter(pl.col("task_id") != all_ranked[0])
    assert select_tasks(fewer, "random", 9, 5).task_ids == all_ranked[1:]


def test_an_unknown_strategy_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"'uncertain'; valid: prompt_uncertainty, random"):
        select_tasks(make_frame([0.1]), "uncertain", 1, 0)


def test_a_score_that_is_no_number_is_not_ranked() -> None:
    frame = make_frame([0.1, 0.2]).with_columns(
        pl.Series("prompt_uncertainty", [0.1, float("nan")])
    )
    with pytest.raises(InputError, match=r"record task-1, field 'prompt_uncertainty'"):
        select_tasks(frame, "prompt_uncertainty", 1, 0)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InputError, match="no task is left"):
        select_tasks(make_frame([0.1]).clear(), "random", 1, 0)
