"""Every gold output agrees with a rule that was written apart from the files that hold it.

The rules stand in `test_bundled_rules/`. A rule takes an input and an answer and says whether the
answer is right. It reads the input as a solver would.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.pools.bundled import held_out_pool, training_pool
from engine.tasks import Task

Rule = Callable[[str, str], bool]

#: Tasks whose gold outputs are knowledge or judgement, for which there is no independent rule.
HAND_MADE = {
    "animal_class",
    "antonym",
    "assistant_intent",
    "capital_city",
    "english_to_spanish",
    "fact_or_opinion",
    "feeling_of_speaker",
    "likely_effect",
    "message_topic",
    "review_sentiment",
    "thing_kind",
}
TASKS = {task.id: task for task in (*training_pool(), *held_out_pool())}


def load_rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for path in sorted((Path(__file__).parent / "test_bundled_rules").glob("rules_*.py")):
        found: dict[str, Rule] = runpy.run_path(str(path))["RULES"]
        assert not rules.keys() & found.keys(), f"{path.name} repeats a rule"
        rules.update(found)
    return rules


RULES = load_rules()


def test_every_task_has_a_rule_or_is_known_to_be_hand_made() -> None:
    assert not RULES.keys() & HAND_MADE
    without = TASKS.keys() - RULES.keys() - HAND_MADE
    assert not without, f"no independent rule for {sorted(without)}"
    unknown = (RULES.keys() | HAND_MADE) - TASKS.keys()
    assert not unknown, f"rules for tasks that are not there: {sorted(unknown)}"


@pytest.mark.parametrize("task_id", sorted(RULES))
def test_gold_outputs_and_examples_agree_with_the_rule(task_id: str) -> None:
    task, rule = TASKS[task_id], RULES[task_id]
    for instance in task.instances:
        for output in instance.outputs:
            assert rule(instance.input, output), f"{instance.id}: {instance.input!r} -> {output!r}"
    for example in task.positive_examples:
        assert rule(example.input, example.output), f"positive example {example.input!r}"
    for example in task.negative_examples:
        assert not rule(example.input, example.output), f"negative example {example.input!r}"


def other_answers(task: Task) -> dict[str, str]:
    """For each input an answer of another instance that is not a gold output here."""
    swapped = {}
    for instance in task.instances:
        others = (other.outputs[0] for other in task.instances)
        swapped[instance.input] = next(
            answer for answer in others if answer not in instance.outputs
        )
    return swapped


@pytest.mark.parametrize("task_id", sorted(RULES))
def test_the_rule_refuses_the_answers_of_other_instances(task_id: str) -> None:
    """Without this, a rule that accepts everything would prove nothing."""
    for text, answer in other_answers(TASKS[task_id]).items():
        assert not RULES[task_id](text, answer), f"{text!r} -> {answer!r}"


@pytest.mark.parametrize("task_id", ["capital_city", "english_to_spanish", "chemical_symbol"])
def test_tables_of_names_are_one_to_one(task_id: str) -> None:
    outputs = [output for instance in TASKS[task_id].instances for output in instance.outputs]
    assert len(set(outputs)) == len(outputs)


def test_antonyms_are_words_of_their_own() -> None:
    for instance in TASKS["antonym"].instances:
        for output in instance.outputs:
            assert output.isalpha()
            assert output.islower()
            assert output not in {
                f"{prefix}{instance.input}" for prefix in ("un", "in", "im", "dis")
            }


def test_no_effect_is_offered_twice() -> None:
    for instance in TASKS["likely_effect"].instances:
        _, _, options = instance.input.partition(" A: ")
        first, found, second = options.partition(" B: ")
        assert found
        assert first != second
