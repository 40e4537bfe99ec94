"""What the server measures of one task's samples, against data frames, other code and by hand."""

from __future__ import annotations

import math
import random

import polars as pl
import pytest
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from engine.measures.compute import compute_measures
from engine.measures.disagreement import (
    disagreement_table,
    mean_rouge_distance,
    rouge_distance,
)
from engine.measures.measure import Outputs
from engine.measures.measure_registry import INPUTS
from engine.measures.measure_testing import draw_table
from engine.protocol.api import QuestionAnswer
from engine.questions.output_question import OutputQuestion, Sample
from tests.engine.examples import make_task


def make_samples(*instances: list[list[str]], labels: tuple[str, ...] = ()) -> list[Sample]:
    """An argument is an instance, of it an element is the outputs under j = 0, 1, ..."""
    return [
        Sample(
            instance_id=f"i{i}",
            perturbation=j,
            sample=number,
            output=output,
            label=output.strip() if output.strip() in labels else None,
            n_tokens=1,
            finish_reason="stop",
        )
        for i, instance in enumerate(instances)
        for j, outputs in enumerate(instance)
        for number, output in enumerate(outputs)
    ]


def measured(samples: list[Sample], *, labelled: bool) -> QuestionAnswer:
    task = make_task().model_copy(update={"labels": ("blue",) if labelled else ()})
    return OutputQuestion().answer(samples, task)


def arranged(samples: list[Sample]) -> Outputs:
    outputs: Outputs = OutputQuestion().arrange(each.model_dump() for each in samples)
    return outputs


def test_server_and_data_frames_measure_the_same() -> None:
    table = draw_table("samples", 7, n_tasks=6)
    frames = compute_measures(table, "samples").rows_by_key("task_id", named=True, unique=True)
    for (task_id,), rows in table.group_by("task_id", maintain_order=True):
        samples = [
            Sample(label=None, n_tokens=1, finish_reason="stop", **row)
            for row in rows.drop("task_id").iter_rows(named=True)
        ]
        found = measured(samples, labelled=False)
        expected = frames[task_id]
        for name in ("output_disagreement", "output_rouge_distance"):
            assert found.values[name] == pytest.approx(expected[name])
        assert found.values["output_label_entropy"] is None
        assert found.standard_error is not None
        assert found.standard_error > 0


def test_disagreement_by_hand() -> None:
    samples = make_samples(
        [["a", "a ", "b"], ["a", "a", "a"], ["b", "c", "a"]],
        [["b", "a", "c"], ["a", "a", "b"], ["x", "y", "z"]],  # a: the first in the alphabet
    )
    assert disagreement_table(arranged(samples)).tolist() == [
        [0, pytest.approx(2 / 3)],
        [pytest.approx(1 / 3), 1],
    ]
    found = measured(samples, labelled=False)
    assert found.values["output_disagreement"] == pytest.approx(0.5)


def test_no_disagreement_has_no_error() -> None:
    found = measured(make_samples([["a b"]] * 3, [["c"]] * 3), labelled=True)
    assert set(found.values.values()) == {0}
    assert list(found.values) == [
        "output_disagreement",
        "output_rouge_distance",
        "output_label_entropy",
    ]
    assert found.standard_error == 0


def test_entropy_of_labels_counts_everything_else_as_one_more() -> None:
    labels = ("yes", "no")
    samples = make_samples(
        [["?"], ["yes", "no"], ["hm", "who knows"]],
        [["?"], ["yes", "yes"], [" yes", "yes"]],
        labels=labels,
    )
    found = measured(samples, labelled=True)
    first = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert found.values["output_label_entropy"] == pytest.approx(first / 2)


def test_a_missing_prompt_is_an_error() -> None:
    with pytest.raises(ValueError, match="every instance needs samples"):
        disagreement_table(arranged(make_samples([["a"], ["b"]], [["a"]])))


def test_rouge_is_that_of_the_package() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    draw = random.Random(0)
    words = ["a", "The", "cat,", "sat-on", "mat.", "(x)", "12", "cat"]
    for _ in range(300):
        one, other = (" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(2))
        expected = scorer.score(one, other)["rougeL"].fmeasure
        assert rouge_distance(one, other) == pytest.approx(1 - expected, abs=1e-12)
        assert rouge_distance(one, other) == rouge_distance(other, one)
    assert rouge_distance("!?", "!?") == 0
    assert rouge_distance("!?", "...") == 1
    assert rouge_distance("die grüne Wiese", "Die GRÜNE Wiese!") == 0
    assert rouge_distance("да нет", "да") == pytest.approx(1 / 3)


def test_rouge_of_many_is_the_mean_over_all_pairs() -> None:
    one, other = ["a b", "a", "a b"], ["a b", "c"]
    pairs = [rouge_distance(a, b) for a in one for b in other]
    assert mean_rouge_distance(one, other) == pytest.approx(sum(pairs) / 6)


def test_entropy_of_samples() -> None:
    rows = [("t", "i", j, 0, output) for j, output in enumerate("xab")]
    table = pl.DataFrame(rows, schema=INPUTS["samples"].columns, orient="row")
    found = compute_measures(table, "samples", ["sample_entropy"])
    assert found["sample_entropy"].to_list() == pytest.approx([math.log(2)])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("我在北京", "我在巴黎。", 0.5),
        ("コーヒーを飲む", "コーヒーを買う", 0.5),
        ("да нет", "да", 1 / 3),
    ],
)
def test_words_of_other_scripts(one: str, other: str, expected: float) -> None:
    assert rouge_distance(one, other) == pytest.approx(expected)
