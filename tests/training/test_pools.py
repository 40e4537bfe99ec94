from __future__ import annotations

import pytest

from engine.errors import InputError
from engine.tasks import Instance, Pool, Task
from tests.training.fakes import make_pool, make_task
from training.config import RunConfig
from training.pools import check_pools, load_pools, sample_tasks, split_by_category

CONFIG = RunConfig.model_validate({"rounds": 2, "select": {"n_tasks": 2}})


def test_the_bundled_pools_load() -> None:
    values = {"pool": {"max_tasks": 20, "max_held_out_tasks": 5}, "rounds": 2}
    pool, held_out = load_pools(RunConfig.model_validate(values))
    assert (len(pool), len(held_out)) == (20, 5)


def test_a_sample_keeps_the_order_of_the_pool() -> None:
    pool = make_pool(10)
    ids = [task.id for task in sample_tasks(pool, 4, 0)]
    assert ids == sorted(ids)
    assert len(ids) == 4
    assert sample_tasks(pool, 10, 0) is pool
    assert ids != [task.id for task in sample_tasks(pool, 4, 1)]


def test_whole_categories_are_set_aside() -> None:
    tasks = [make_task(f"t-{index}", category=f"c{index % 5}") for index in range(20)]
    pool, held_out = split_by_category(Pool(tasks), 0)
    assert len(pool) + len(held_out) == 20
    assert not {task.category for task in pool} & {task.category for task in held_out}
    assert len(held_out) == 8  # one category of 4 is a fifth, two are over a quarter
    with pytest.raises(InputError, match="all tasks are of one category"):
        split_by_category(make_pool(4), 0)


def test_what_would_stop_a_run_late_is_found_early() -> None:
    other = make_pool(2, "held", "other")
    check_pools(make_pool(4), other, CONFIG)
    with pytest.raises(InputError, match="holds 3 tasks, but 2 rounds of 2 selected tasks need 4"):
        check_pools(make_pool(3), other, CONFIG)
    with pytest.raises(InputError, match="both trained on and held out"):
        check_pools(make_pool(4), make_pool(1, category="other"), CONFIG)
    with pytest.raises(InputError, match="record held-0, field 'category'"):
        check_pools(make_pool(4), make_pool(1, "held"), CONFIG)
    bare = Task(id="bare", definition="say", instances=(Instance(id="i", input="x"),))
    with pytest.raises(InputError, match="record bare, field 'outputs'"):
        check_pools(make_pool(4), Pool([bare]), CONFIG)
