from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl
import pytest

from engine.measures.compute import compute_measures
from engine.measures.measure_registry import INPUTS
from engine.measures.measure_testing import draw_table

LN2 = math.log(2)


def label_table(*prompts: Sequence[Mapping[str, float]]) -> pl.DataFrame:
    """A task; an argument is an instance, of it an element is the labels under j = 1, 2, ..."""
    rows = [
        ("t", f"i{i}", j, label, probability)
        for i, instance in enumerate(prompts)
        for j, labels in enumerate(instance, start=1)
        for label, probability in labels.items()
    ]
    return pl.DataFrame(rows, schema=INPUTS["label_probabilities"].columns, orient="row")


def sample_table(*instances: Sequence[Sequence[str]]) -> pl.DataFrame:
    """A task; an argument is an instance, of it an element is the outputs under j = 0, 1, ..."""
    rows = [
        ("t", f"i{i}", j, n, output)
        for i, instance in enumerate(instances)
        for j, outputs in enumerate(instance)
        for n, output in enumerate(outputs)
    ]
    return pl.DataFrame(rows, schema=INPUTS["samples"].columns, orient="row")


def test_prompts_that_contradict_each_other_are_all_information() -> None:
    table = label_table([{"yes": 1.0, "no": 0.0}, {"yes": 0.0, "no": 1.0}])
    found = compute_measures(table, "label_probabilities").row(0, named=True)
    assert found == {
        "task_id": "t",
        "label_bald": pytest.approx(LN2, abs=1e-12),
        "label_entropy": pytest.approx(LN2, abs=1e-12),
    }


def test_prompts_that_agree_on_doubt_are_no_information() -> None:
    table = label_table([{"yes": 0.5, "no": 0.5}] * 3)
    found = compute_measures(table, "label_probabilities").row(0, named=True)
    assert found["label_bald"] == pytest.approx(0, abs=1e-12)
    assert found["label_entropy"] == pytest.approx(LN2, abs=1e-12)


def test_labels_are_scaled_to_sum_to_one_and_instances_averaged() -> None:
    table = label_table(
        [{"yes": 0.002, "no": 0.0}, {"yes": 0.0, "no": 0.05}], [{"yes": 3.0, "no": 1.0}]
    )
    found = compute_measures(table, "label_probabilities").row(0, named=True)
    second = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["label_bald"] == pytest.approx(LN2, abs=1e-12), "a single prompt tells nothing"
    assert found["label_entropy"] == pytest.approx((LN2 + second) / 2, abs=1e-12)


def plain_bald(table: pl.DataFrame) -> dict[str, float]:
    def entropy(q: Sequence[float]) -> float:
        return -sum(each * math.log(each) for each in q if each > 0)

    found: dict[str, list[float]] = {}
    for (task, _), rows in table.group_by("task_id", "instance_id", maintain_order=True):
        prompts = []
        for j in sorted(set(rows["perturbation"]) - {0}):
            values = rows.filter(pl.col("perturbation") == j).sort("label")["probability"]
            prompts.append([value / sum(values) for value in values])
        mean = [sum(column) / len(prompts) for column in zip(*prompts, strict=True)]
        gain = entropy(mean) - sum(map(entropy, prompts)) / len(prompts)
        found.setdefault(str(task), []).append(gain)
    return {task: sum(gains) / len(gains) for task, gains in found.items()}


def test_bald_against_plain_python() -> None:
    table = draw_table("label_probabilities", 3, n_tasks=10)
    found = compute_measures(table, "label_probabilities", ["label_bald"])
    assert dict(found.iter_rows()) == pytest.approx(plain_bald(table), abs=1e-9)


def test_self_consistency_is_the_share_of_the_majority() -> None:
    table = sample_table(
        [["a", "a ", "b", "c"], ["x"]],  # two of four
        [["b", "a"], ["x"]],  # one of two
    )
    found = compute_measures(table, "samples").row(0, named=True)
    assert found["self_consistency"] == 0.5


def test_output_disagreement_counts_prompts_and_instances_alike() -> None:
    table = sample_table(
        [["a"], ["a"], ["b"]],  # half of the prompts
        [["b", "a"], ["a", "b", "b", "b"]],  # of equals the first in the alphabet: three quarters
    )
    found = compute_measures(table, "samples").row(0, named=True)
    assert found["output_disagreement"] == pytest.approx((0.5 + 0.75) / 2, abs=1e-12)


def test_what_has_nothing_to_be_compared_with_is_not_measured() -> None:
    labels = label_table([{"yes": 0.5, "no": 0.5}])
    found = compute_measures(labels, "label_probabilities").row(0, named=True)
    assert found["label_bald"] is None
    assert found["label_entropy"] == pytest.approx(LN2, abs=1e-12)
    single = compute_measures(sample_table([["a"], ["b"]]), "samples").row(0, named=True)
    assert {name for name, value in single.items() if value is None} == {
        "self_consistency",
        "sample_entropy",
        "sample_bald",
    }
    # An instance that has enough is measured all the same.
    table = sample_table([["a"], ["b"]], [["a", "b"], ["c", "d"]])
    mixed = compute_measures(table, "samples").row(0, named=True)
    assert mixed["self_consistency"] == 0.5
    assert mixed["sample_entropy"] == pytest.approx(LN2, abs=1e-12)


def test_information_of_samples() -> None:
    apart = sample_table([["a"], ["a", "a"], ["b", "b"]])
    same = sample_table([["a"], ["a", "b"], ["b", "a"]])
    (one,) = compute_measures(apart, "samples", ["sample_bald"])["sample_bald"]
    (other,) = compute_measures(same, "samples", ["sample_bald"])["sample_bald"]
    assert one == pytest.approx(LN2, abs=1e-12)
    assert other == pytest.approx(0, abs=1e-12)
