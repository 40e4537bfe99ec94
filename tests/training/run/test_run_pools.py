from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.tasks import Instance, Pool, Task
from tests.engine.small_tokenizers import gpt2
from tests.training.fakes import make_pool, make_task
from training.config.run_config import RunConfig
from training.run.run_pools import (
    Pools,
    check_pools,
    leave_out_unfit,
    load_pools,
    sample_tasks,
    split,
    take_validation,
)

CONFIG = RunConfig.model_validate({"rounds": 2, "select": {"n_tasks": 2}})


def test_the_bundled_pools_load() -> None:
    values = {"pool": {"max_tasks": 20, "max_held_out_tasks": 5}, "rounds": 2}
    pools = load_pools(RunConfig.model_validate(values))
    assert (len(pools.pool), len(pools.held_out)) == (20, 5)
    assert pools.shared_categories == []


def test_a_sample_keeps_the_order_of_the_pool() -> None:
    pool = make_pool(10)
    ids = [task.id for task in sample_tasks(pool, 4, 0)]
    assert ids == sorted(ids)
    assert len(ids) == 4
    assert sample_tasks(pool, 10, 0) is pool
    assert ids != [task.id for task in sample_tasks(pool, 4, 1)]


def test_whole_categories_are_held_out_where_their_sizes_allow() -> None:
    tasks = [make_task(f"t-{index}", category=f"c{index % 5}") for index in range(20)]
    pools = split(Pool(tasks), 0)
    assert pools.origin == "whole categories"
    assert len(pools.held_out) == 8  # one category of 4 is a fifth, two are over a quarter
    assert len(pools.pool) == 12
    assert pools.shared_categories == []
    assert [task.id for task in pools.held_out] == [task.id for task in split(Pool(tasks), 0)[1]]


def test_one_category_that_outweighs_the_others_is_divided() -> None:
    pools = split(Pool([*make_pool(19), make_task("lone", category="other")]), 0)
    assert pools.origin == "drawn at random"
    assert (len(pools.pool), len(pools.held_out)) == (15, 5)
    assert pools.shared_categories == ["color"]
    with pytest.raises(InputError, match="needs a second task"):
        split(make_pool(1), 0)


@pytest.mark.parametrize("place", ["splits", "splits/default"])
def test_the_split_beside_the_folder_is_used(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "train_tasks.txt").write_text("task-2\ntask-0\nabsent\n")
    (folder / "test_tasks.txt").write_text("task-3\n")
    pools = split(Pool(list(make_pool(5)), source=str(tmp_path / "tasks")), 0)
    assert [task.id for task in pools.pool] == ["task-0", "task-2"]
    assert [task.id for task in pools.held_out] == ["task-3"]
    assert place in pools.origin


def test_a_run_leaves_out_what_is_at_fault_if_it_may(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Say {word}.", "input": "", "output": word, "category": word[0]}
        for word in ("ant", "bee", "cow", "dog", "elk", "fox")
    ]
    rows[4]["output"] = " "
    rows.append(rows[0] | {"tools": "search"})
    rows.append(rows[0] | {"input": "too long " * 2_000})
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values: dict[str, Any] = {
        "pool": {"path": str(file), "skip_faulty": True},
        "rounds": 1,
        "select": {"n_tasks": 1},
    }
    config = RunConfig.model_validate(values)
    pools = load_pools(config)
    told = [(fault.record, fault.field) for fault in pools.left_out]
    assert told == [("line 7", "tools"), ("a-5", "outputs")]
    builder = PromptBuilder(gpt2(), config.score.prompt, 512)
    fitting = leave_out_unfit(pools, config, builder)
    told = [(fault.record, fault.field) for fault in fitting.left_out]
    assert told == [("line 7", "tools"), ("a-5", "outputs"), ("a-8/a-8-0", "input")]
    ids = {task.id for side in fitting[:2] for task in side}
    assert ids == {"a-1", "a-2", "a-3", "a-4", "a-6"}
    values["pool"]["skip_faulty"] = False
    with pytest.raises(InputError, match="record line 7, field 'tools'"):
        load_pools(RunConfig.model_validate(values))
    values["pool"] = {"held_out_split": "test"}
    with pytest.raises(InputError, match=r"'pool\.held_out_split': goes with another pool"):
        load_pools(RunConfig.model_validate(values))


def test_what_would_stop_a_run_late_is_found_early() -> None:
    other = make_pool(2, "held", "other")
    check_pools(Pools(make_pool(4), other, ""), CONFIG)
    with pytest.raises(InputError, match="holds 3 tasks, but 2 rounds of 2 selected tasks need 4"):
        check_pools(Pools(make_pool(3), other, ""), CONFIG)
    with pytest.raises(InputError, match="both trained on and held out"):
        check_pools(Pools(make_pool(4), make_pool(1, category="other"), ""), CONFIG)
    bare = Task(id="bare", definition="say", instances=(Instance(id="i", input="x"),))
    with pytest.raises(InputError, match="record bare, field 'outputs'"):
        check_pools(Pools(make_pool(4), Pool([bare]), ""), CONFIG)


HALVES = {"name": "stratified", "column": "category", "shares": {"a": 0.5, "b": 0.5}}
ALL_OF_A = {"name": "stratified", "column": "category", "shares": {"a": 1}}


@pytest.mark.parametrize(
    ("strategy", "more", "told"),
    [
        (HALVES, {}, ""),
        (ALL_OF_A, {}, "'a' is to have 2 of 2 tasks in each of 2 rounds, and 3 there"),
        (ALL_OF_A | {"when_short": "refill"}, {}, ""),
        ({"name": "mix", "parts": [{"share": 1, "strategy": ALL_OF_A}]}, {}, "'a' is to have 2"),
        (ALL_OF_A | {"column": "map_category"}, {}, ""),
        ({"name": "classification_share", "share": 0.5}, {}, "'true' is to have 1 of 2 .* and 0 "),
        # The seeds draw two of the three tasks of `a`, and three of the four of `b`.
        (HALVES, {"initial": {"n_tasks": 3}, "seed": 4}, "'a' .* 1 of 2 .* 2 rounds, and 1 there"),
        (HALVES, {"train": {"validation_tasks": 3}}, "'b' .* 1 of 2 .* 2 rounds, and 1 there"),
    ],
)
def test_strata_that_cannot_be_filled_in_every_round_are_found_early(
    strategy: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    pool = Pool([make_task(f"t-{n}", category="aaabbbb"[n]) for n in range(7)], "pool.jsonl")
    pools = Pools(pool, make_pool(2, "held", "other"), "")
    values = {"rounds": 2, "select": {"n_tasks": 2, "strategy": strategy}, **more}
    config = RunConfig.model_validate(values)
    if not told:
        check_pools(pools, config)
        return
    with pytest.raises(InputError, match=rf"pool.jsonl, field 'select.strategy': .*{told}"):
        check_pools(pools, config)


@pytest.mark.parametrize("held_out", ["auto", "FILE"])
def test_runs_of_any_seed_are_compared_on_the_same_tasks_and_instances(
    tmp_path: Path, held_out: str
) -> None:
    def write(name: str, n_tasks: int) -> str:
        path = tmp_path / f"{name}.jsonl"
        tasks = [make_task(f"{name}-{n}", category=f"{name} {n % 9}") for n in range(n_tasks)]
        path.write_text("".join(task.model_dump_json() + "\n" for task in tasks))
        return str(path)

    pool = write("pool", 60)
    held = write("held", 30) if held_out == "FILE" else held_out
    found: list[tuple[list[Task], list[Task], list[str]]] = []
    for seed in (0, 1, 2):
        values = {
            "pool": {
                "path": pool,
                "held_out": held,
                "max_tasks": 20,
                "max_held_out_tasks": 5,
                "max_instances": 2,
            },
            "train": {"validation_tasks": 3},
            "rounds": 1,
            "seed": seed,
        }
        config = RunConfig.model_validate(values)
        pools = load_pools(config)
        assert (len(pools.pool), len(pools.held_out)) == (20, 5)
        left, validation = take_validation(pools.pool, 3, config.evaluate.seed)
        found.append((list(pools.held_out), list(validation), [task.id for task in left]))
    assert found[0][:2] == found[1][:2] == found[2][:2]
    assert found[0][2] != found[1][2], "what is scored and trained on follows the run's seed"
    other = RunConfig.model_validate(values | {"evaluate": {"seed": 1}})
    assert list(load_pools(other).held_out) != found[0][0]
