"""The bundled pools are what they were, to every letter, and a folder like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.pools import bundled
from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.opening import load_pool
from engine.pools.options import PoolOptions
from engine.tasks import Task

BUNDLED = Path(bundled.__file__).with_name("bundled_pool")
TASKS = [*training_pool(), *held_out_pool()]


def by_id(task: Task) -> str:
    return task.id


def test_no_task_changes_without_a_word() -> None:
    """All figures that were measured on these tasks hang on every letter of them."""
    assert training_pool().digest().startswith("1b6c014c42293db5")
    assert held_out_pool().digest().startswith("87cfdaa4e2015489")


def test_a_copy_of_the_folder_is_a_pool(tmp_path: Path) -> None:
    shutil.copytree(BUNDLED, tmp_path / "copy")
    for split, pool in (("train", training_pool()), ("test", held_out_pool())):
        copy = load_pool(tmp_path / "copy", PoolOptions(split=split))
        assert sorted(copy, key=by_id) == sorted(pool, key=by_id)
    assert {task.id for task in load_pool(tmp_path / "copy")} == {task.id for task in TASKS}
