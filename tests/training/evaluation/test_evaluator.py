from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.completions import CompletionLogprobs
from engine.tasks import Instance, Task
from tests.training.fakes import FakeEngine, make_task
from tests.training.tiny import make_tokenizer
from training.config.run_config import EvaluateConfig
from training.evaluation.bootstrap import mean_interval
from training.evaluation.evaluator import (
    AnyScript,
    Evaluator,
    build_evaluation_set,
    exact_match,
    normalise,
)
from training.report.display import evaluation_table

BUILDER = PromptBuilder(make_tokenizer(), PromptConfig(), 128)
CONFIG = EvaluateConfig(max_new_tokens=8)


class Echo(FakeEngine):
    """Answers with the same words, and remembers how many prompts came at once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, end: int) -> list[str]:
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
    assert sum(map(len, data.prompts)) == 4
    bare = Task(id="bare", definition="say", instances=(silent,))
    with pytest.raises(InputError, match=r"record bare, field 'outputs'"):
        build_evaluation_set([bare], BUILDER, CONFIG)


def test_kinds_and_intervals() -> None:
    labelled = make_task("a").model_copy(update={"labels": ("blue", "green")})
    tasks = [labelled, make_task("b"), make_task("c")]
    evaluator = Evaluator(build_evaluation_set(tasks, BUILDER, CONFIG), 8)
    list(evaluator.run(Echo()))
    result = evaluator.result()
    assert {name: each.n_instances for name, each in result.kinds.items()} == {
        "classification": 4,
        "generation": 8,
    }
    assert result.kinds["classification"].exact_match_interval is None  # one task has no spread
    low, high = result.tasks["a"].exact_match_interval or (0.0, 0.0)
    assert low <= 25.0 <= high
    assert low < high
    assert result.overall.exact_match_interval == (25.0, 25.0)  # all tasks score the same
    assert all(0 <= end <= 100 for end in result.tasks["a"].rouge_l_interval or (-1,))
    assert [each.output for each in evaluator.outputs] == ["Blue."] * 12


def test_the_kind_is_that_of_the_whole_task() -> None:
    many = tuple(
        Instance(id=str(index), input="sky", outputs=("yes" if index % 2 else "no",))
        for index in range(20)
    )
    task = make_task("a").model_copy(update={"instances": many})
    data = build_evaluation_set(
        [task], BUILDER, CONFIG.model_copy(update={"instances_per_task": 3})
    )
    evaluator = Evaluator(data, 8)
    list(evaluator.run(Echo()))
    assert list(evaluator.result().kinds) == ["classification"]


def test_gold_perplexity_is_that_of_the_first_gold_output() -> None:
    config = EvaluateConfig(max_new_tokens=8, gold_perplexity=True)
    data = build_evaluation_set([make_task("a"), make_task("b")], BUILDER, config)
    evaluator = Evaluator(data, 8)
    list(evaluator.run(FakeEngine()))
    result = evaluator.result()
    assert result.tasks["a"].gold_perplexity == pytest.approx(math.exp(0.5))
    assert result.overall.gold_perplexity == pytest.approx(math.exp(0.5))


def test_a_perplexity_beyond_all_numbers_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EvaluateConfig(max_new_tokens=8, gold_perplexity=True)
    evaluator = Evaluator(build_evaluation_set([make_task("a")], BUILDER, config), 8)
    unlikely = property(lambda _: -800.0)
    monkeypatch.setattr(CompletionLogprobs, "mean_logprob", unlikely, raising=False)
    list(evaluator.run(FakeEngine()))
    assert evaluator.result().tasks["a"].gold_perplexity is None


def test_golds_that_do_not_fit_the_context_are_not_counted() -> None:
    config = EvaluateConfig(max_new_tokens=8, gold_perplexity=True)

    def with_long(task_id: str, n_long: int) -> Task:
        task = make_task(task_id)
        long = tuple(
            one.model_copy(update={"outputs": ("blue " * 200,)}) for one in task.instances[:n_long]
        )
        return task.model_copy(update={"instances": long + task.instances[n_long:]})

    data = build_evaluation_set([with_long("a", 1), with_long("b", 4)], BUILDER, config)
    evaluator = Evaluator(data, 8)
    list(evaluator.run(FakeEngine()))
    found = evaluator.result()
    assert found.tasks["a"].gold_perplexity == pytest.approx(math.exp(0.5))
    assert found.tasks["b"].gold_perplexity is None
    counts = [each.gold_instances for each in (found.tasks["a"], found.tasks["b"], found.overall)]
    assert counts == [3, 0, 3]
    assert found.overall.n_instances == 8
    with Console(width=120, record=True, file=io.StringIO()) as console:
        console.print(evaluation_table("x", found))
    assert "1.65 (of 3)" in console.export_text()
    wide = {"classification": found.overall, "a category of a longer name": found.overall}
    with Console(width=80, record=True, file=io.StringIO()) as console:
        console.print(evaluation_table("x", found.model_copy(update={"kinds": wide})))
    assert "…" not in console.export_text()
    bare = Evaluator(build_evaluation_set([make_task("a")], BUILDER, CONFIG), 8)
    list(bare.run(FakeEngine()))
    assert bare.result().overall.gold_instances is None, "not asked for"


@pytest.mark.parametrize(
    ("output", "gold", "expected"),
    [
        ("巴黎。", "巴黎", 100.0),
        ("我在北京", "我在巴黎", 50.0),
        ("コーヒーを飲む", "コーヒーを飲む", 100.0),
        ("ประเทศไทย", "ประเทศไทย", 100.0),
        ("Москва большая", "москва", 200 / 3),
        ("서울 입니다", "서울", 200 / 3),
        ("القاهرة", "القاهرة", 100.0),
        ("दिल्ली", "दिल्ली", 100.0),
        ("Tokyo駅", "tokyo 駅", 100.0),
        ("巴黎", "伦敦", 0.0),
    ],
)
def test_rouge_knows_words_of_other_scripts(output: str, gold: str, expected: float) -> None:
    evaluator = Evaluator(build_evaluation_set([make_task("a")], BUILDER, CONFIG), 8)
    assert evaluator.rouge_l(output, [gold]) == pytest.approx(expected)


@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="\u00b5")))
def test_words_of_latin_letters_are_those_of_the_package(text: str) -> None:
    assert AnyScript().tokenize(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)


@pytest.mark.parametrize("n", [10, 400])
def test_an_interval_shrinks_like_the_standard_error(n: int) -> None:
    values = [float(index % 2) for index in range(n)]
    found = mean_interval(values, "x", 4_000)
    assert found is not None
    expected = 2 * 1.96 * 0.5 / math.sqrt(n)
    assert found[1] - found[0] == pytest.approx(expected, rel=0.3)
    assert mean_interval(values, "x", 4_000) == found
    assert mean_interval(values[:1], "x") is None


def test_blank_golds_are_none_and_end_tokens_are_stripped_where_asked() -> None:
    task = make_task("a")
    outputs = {"sky": ("", " blue <eos>\n"), "grass": ("  ",), "blood": (), "abc": ("cba",)}
    instances = tuple(
        each.model_copy(update={"outputs": outputs[each.id]}) for each in task.instances
    )
    task = task.model_copy(update={"instances": instances})
    found = {}
    for strip in (False, True):
        builder = PromptBuilder(make_tokenizer(), PromptConfig(strip_end_tokens=strip), 128)
        config = CONFIG.model_copy(update={"gold_perplexity": True})
        data = build_evaluation_set([task], builder, config)
        found[strip] = [each.outputs for each in data.tasks[0].instances]
        (gold, _) = data.golds[0]
        words = builder.tokenizer.convert_ids_to_tokens(list(gold.completion_token_ids))
        assert (words == ["blue", "<eos>"]) == strip
        assert words.count("<eos>") == 1, "the text is no token"
        assert data.end == builder.tokenizer.eos_token_id
    assert found == {False: [("blue <eos>",), ("cba",)], True: [("blue",), ("cba",)]}
    # The right answer is right.
    evaluator = Evaluator(data, 8)
    answers = evaluator.compare(data.tasks[0], ["blue", "cba"])
    assert [(each.rouge_l, each.exact_match) for each in answers] == [(100.0, True)] * 2
