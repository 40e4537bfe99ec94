"""The bundled pool keeps its promises: sizes, lengths, labels, disjointness, every letter."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from engine.pools import bundled
from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.opening import load_pool
from engine.pools.options import PoolOptions
from engine.tasks import Task
from tests.engine.pools.test_bundled_rules.vocabulary import GROUPS

BUNDLED = Path(bundled.__file__).with_name("bundled_pool")
TASKS = [*training_pool(), *held_out_pool()]


def by_id(task: Task) -> str:
    return task.id


def words(text: str) -> int:
    return len(text.split())


def test_numbers_of_tasks() -> None:
    assert len(training_pool()) >= 48
    assert len(held_out_pool()) >= 12
    assert len(TASKS) >= 60


def test_task_ids_are_unique_across_both_pools() -> None:
    assert len({task.id for task in TASKS}) == len(TASKS)
    assert len({task.definition for task in TASKS}) == len(TASKS)


def test_no_category_is_shared_between_the_pools() -> None:
    trained = {task.category for task in training_pool()}
    held_out = {task.category for task in held_out_pool()}
    assert None not in trained | held_out
    assert not trained & held_out
    assert len(trained) >= 10
    assert len(held_out) >= 8


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
class TestEveryTask:
    def test_definition_is_short_and_complete(self, task: Task) -> None:
        assert 15 <= words(task.definition) <= 60
        assert task.definition[0].isupper()
        assert task.definition[-1] in ".?"
        assert "  " not in task.definition

    def test_examples_are_explained(self, task: Task) -> None:
        assert len(task.positive_examples) >= 2
        assert len(task.negative_examples) >= 2
        for example in (*task.positive_examples, *task.negative_examples):
            assert example.input
            assert example.output
            assert words(example.input) <= 30
            assert words(example.explanation) >= 3
            assert example.explanation[-1] in ".!"

    def test_instances_are_enough_and_short(self, task: Task) -> None:
        assert len(task.instances) >= 40
        for number, instance in enumerate(task.instances):
            assert instance.id == f"{task.id}-{number:03}"
            assert 1 <= words(instance.input) <= 30
            assert instance.outputs
            for output in instance.outputs:
                assert 1 <= words(output) <= 10
                assert output == output.strip()

    def test_inputs_are_distinct_also_from_the_examples(self, task: Task) -> None:
        inputs = [example.input for example in (*task.positive_examples, *task.negative_examples)]
        inputs += [instance.input for instance in task.instances]
        assert len({text.strip().lower() for text in inputs}) == len(inputs)

    def test_id_and_category_are_readable(self, task: Task) -> None:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", task.id)
        assert task.category
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", task.category)

    def test_labels_cover_the_outputs_evenly(self, task: Task) -> None:
        if not task.labels:
            most = Counter(instance.outputs[0] for instance in task.instances).most_common(1)[0][1]
            assert most <= len(task.instances) * 0.4, "one answer would do for most instances"
            return
        assert len(set(task.labels)) == len(task.labels) >= 2
        assert {example.output for example in task.positive_examples} <= set(task.labels)
        counts = Counter(instance.outputs for instance in task.instances)
        assert set(counts) == {(label,) for label in task.labels}
        even_share = len(task.instances) / len(task.labels)
        assert all(even_share / 2 <= count <= even_share * 2 for count in counts.values())


def test_every_group_of_words_has_words_of_its_own() -> None:
    grouped = [word for group in GROUPS.values() for word in group]
    assert len(set(grouped)) == len(grouped)


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
