from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.config import PromptConfig
from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.tasks import Instance, Task
from tests.training.fakes import make_task
from tests.training.tiny import make_tokenizer
from training.config import EvaluateConfig
from training.evaluation import Evaluator, build_evaluation_set, exact_match, normalise

BUILDER = PromptBuilder(make_tokenizer(), PromptConfig(), 128)
CONFIG = EvaluateConfig(max_new_tokens=8)


class Echo:
    """Answers with the same words, and remembers how many prompts came at once."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        self.calls.append(len(prompts))
        return ["Blue."] * len(prompts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  The  Cat. ", "the cat"), ("U.S.A!", "usa"), ("a\n b\t", "a b"), ("", "")],
)
def test_normalisation_is_that_of_super_natural_instructions(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_the_best_gold_output_counts() -> None:
    evaluator = Evaluator(build_evaluation_set([make_task("a")], BUILDER, CONFIG), 8)
    assert evaluator.rouge_l("the cat sat", ["dogs", "the cat sat down"]) == pytest.approx(600 / 7)
    assert evaluator.rouge_l("running", ["runs"]) == 100.0  # the stemmer is on
    assert evaluator.rouge_l("x", ["y"]) == 0.0
    assert exact_match("Blue!", ["red", "blue"])
    assert not exact_match("blue sky", ["blue"])


def test_tasks_weigh_the_same_and_are_asked_together() -> None:
    tasks = [make_task("a"), make_task("b", category="other"), make_task("c", category="other")]
    data = build_evaluation_set(tasks, BUILDER, CONFIG)
    evaluator, echo = Evaluator(data, 8, prompts_per_call=6), Echo()
    assert list(evaluator.run(echo)) == [(2, "b"), (3, "c")]
    assert echo.calls == [8, 4]
    result = evaluator.result()
    assert result.overall.exact_match == result.tasks["a"].exact_match == 25.0
    assert {name: each.n_instances for name, each in result.categories.items()} == {
        "color": 4,
        "other": 8,
    }


def test_instances_without_gold_are_not_asked() -> None:
    silent = Instance(id="silent", input="x")
    task = make_task("a").model_copy(update={"instances": (silent, *make_task("a").instances)})
    data = build_evaluation_set([task], BUILDER, CONFIG)
    assert data.n_prompts == 4
    bare = Task(id="bare", definition="say", instances=(silent,))
    with pytest.raises(InputError, match=r"record bare, field 'outputs'"):
        build_evaluation_set([bare], BUILDER, CONFIG)
