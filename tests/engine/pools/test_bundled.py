"""The bundled pool keeps its promises: sizes, lengths, labels, disjointness, determinism."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter

import pytest

from engine.pools.bundled import held_out_pool, training_pool
from engine.pools.bundled.lexicon import GROUPS, SENTENCES, WORDS
from engine.tasks import Task

TASKS = [*training_pool(), *held_out_pool()]


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


def test_the_lexicon_has_no_repeats() -> None:
    grouped = [word for group in GROUPS.values() for word in group]
    for listing in (grouped, WORDS, SENTENCES):
        assert len(set(listing)) == len(listing)


def test_the_same_digest_in_a_process_with_another_hash_seed() -> None:
    program = (
        "from engine.pools.bundled import held_out_pool, training_pool\n"
        "print(training_pool().digest(), held_out_pool().digest())"
    )
    expected = f"{training_pool().digest()} {held_out_pool().digest()}"
    for seed in ("1", "4321"):
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert answer.stdout.strip() == expected


def test_pools_are_made_once_and_quickly() -> None:
    assert training_pool() is training_pool()
    assert held_out_pool() is held_out_pool()
    started = time.process_time()
    made_anew = (training_pool.__wrapped__(), held_out_pool.__wrapped__())
    assert time.process_time() - started < 1.0
    assert made_anew[0].digest() == training_pool().digest()
    assert made_anew[1].digest() == held_out_pool().digest()
