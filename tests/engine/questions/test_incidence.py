from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.score_config import ScoreConfig
from engine.questions.incidence import incidence, least_used
from engine.questions.question_registry import find_question


@given(st.integers(1, 12), st.integers(1, 15), st.integers(1, 12), st.integers(0, 50))
def test_all_instances_are_used_equally_often_up_to_one(n: int, k: int, r: int, seed: int) -> None:
    columns = incidence("t", n, k, r, seed)
    assert [len(set(column)) for column in columns] == [min(r, n)] * k
    assert all(list(column) == sorted(column) for column in columns)
    used = Counter(position for column in columns for position in column)
    often = [used[position] for position in range(n)]
    assert max(often) - min(often) <= 1
    assert incidence("t", n, k + 3, r, seed)[:k] == columns


def test_without_r_every_perturbation_meets_every_instance() -> None:
    assert incidence("t", 3, 2, None, 0) == incidence("t", 3, 2, 3, 0) == [(0, 1, 2)] * 2


def test_the_draw_differs_between_tasks_and_seeds() -> None:
    draws = {tuple(incidence(task, 20, 4, 3, seed)) for task in "abc" for seed in range(3)}
    assert len(draws) == 9


def test_the_least_used_come_first() -> None:
    assert least_used([2, 0, 1, 0], 3, "x") == (1, 2, 3)
    assert least_used([0, 0], 5, "x") == (0, 1)


def test_a_design_that_perturbs_no_instance_of_some_is_refused() -> None:
    with pytest.raises(ValueError, match="8 perturbed pairs leave some of 10 instances"):
        ScoreConfig(n_instances=10, n_perturbations=4, instances_per_perturbation=2)
    with pytest.raises(ValueError, match="label_bald needs every perturbed prompt"):
        find_question(ScoreConfig(instances_per_perturbation=2, measure="label_bald"))
    ScoreConfig(instances_per_perturbation=1)
