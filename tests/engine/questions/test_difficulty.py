"""Gold outputs with and without their prompts, and what is measured from them."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from engine.errors import InputError
from engine.measures.compute import compute_measures
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.api import SkippedTask, TaskScore
from engine.protocol.score_config import ScoreConfig
from engine.questions.difficulty_question import DifficultyQuestion, bare_start
from engine.questions.pair_plan import plan_task
from engine.questions.scorer import TaskScorer
from engine.tasks import Task
from tests.engine.examples import make_task
from tests.engine.questions.fake_backend import FakeBackend, output_logprobs
from tests.engine.questions.in_memory import score_all
from tests.engine.small_tokenizers import chat, gpt2, llama2_chat, llama3, unigram
from training.tables.question_tables import row_table

NAME = "instruction_following_difficulty"


def design(**more: Any) -> ScoreConfig:
    values = {"n_instances": 2, "n_perturbations": 2, "max_output_tokens": 8, "measure": NAME}
    return ScoreConfig(**(values | more))


@pytest.mark.parametrize(
    ("tokenizer", "start", "text"),
    [
        (chat, "turn", "<|im_start|>assistant\n"),
        (llama3, "turn", "<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>\n\n"),
        (llama2_chat, "begin", "<s>"),  # its turn of the assistant begins with nothing
        (gpt2, "begin", "<|endoftext|>"),
        (unigram, "second_token", None),
    ],
)
def test_an_answer_alone_has_a_bare_start(tokenizer: Any, start: str, text: str | None) -> None:
    builder = PromptBuilder(tokenizer(), design().prompt, 4096)
    found, ids = bare_start(builder)
    assert (found, builder.tokenizer.decode(ids) if ids else None) == (start, text)


@pytest.mark.parametrize("tokenizer", [chat, gpt2, unigram])
def test_the_ratio_and_the_gain_by_hand(tokenizer: Any) -> None:
    task, config = make_task(n_instances=2), design(instances_per_perturbation=1)
    backend = FakeBackend(tokenizer=tokenizer())
    (score,) = score_all([task], config, backend)
    (plain,) = score_all(
        [task], config.model_copy(update={"measure": "prompt_uncertainty"}), backend
    )
    assert score.pairs == plain.pairs
    assert score.usage.pairs == plain.usage.pairs + 2 * 3
    builder = PromptBuilder(backend.tokenizer, config.prompt, 4096)
    start, nothing = bare_start(builder)
    first = int(start == "second_token")
    ratios, gains = [], []
    originals = plan_task(task, config, builder).originals
    for instance, original in zip(task.instances, originals, strict=True):
        answer = builder.completion(instance.outputs[0])
        n = len(answer) - first
        asked = -sum(output_logprobs(original.token_ids, answer)[first:]) / n
        if nothing:
            alone = -sum(output_logprobs(nothing, answer)) / n
        else:
            alone = -sum(output_logprobs(answer[:1], answer[1:])) / n
        ratios.append(asked / alone)
        gains.append(alone - asked)
    answer_ = score.answers[NAME]
    assert answer_.values[NAME] == pytest.approx(sum(ratios) / 2)
    assert answer_.values["prompt_information"] == pytest.approx(sum(gains) / 2)
    assert answer_.standard_error is None
    assert {row["start"] for row in answer_.rows} == {start}
    assert [row["given"] for row in answer_.rows] == ["prompt", "input", "nothing"] * 2
    table = row_table(DifficultyQuestion(), [score])
    assert table.columns[3:] == ["given", "start", "n_tokens", "logprob", "weights_version"]
    measured = compute_measures(table, "gold_answers")
    assert {name: measured[name][0] for name in measured.columns[1:]} == pytest.approx(
        answer_.values
    )


def test_the_input_alone_is_a_question_of_its_own() -> None:
    task = make_task(n_instances=1)
    turn, raw = "<|im_start|>user\nsky 0<|im_end|>\n", "sky 0\n\n"
    own = PromptConfig(layout="template", template="{{ definition }}{{ input }}")
    for tokenizer, form, text in (
        (chat(), PromptConfig(), turn),
        (chat(), PromptConfig(chat_template="never"), raw),
        (chat(), own, raw),
        (gpt2(), PromptConfig(), raw),
    ):
        config = design(n_instances=1, prompt=form)
        builder = PromptBuilder(tokenizer, config.prompt, 4096)
        asked = DifficultyQuestion().plan(plan_task(task, config, builder), (), config, builder)
        prompt = tokenizer.decode(asked[1].call.prompt)
        assert prompt.startswith(text)
        assert "alpha" not in prompt
        silent = task.model_copy(
            update={"instances": (task.instances[0].model_copy(update={"input": " "}),)}
        )
        _, only, alone = DifficultyQuestion().plan(
            plan_task(silent, config, builder), (), config, builder
        )
        assert only.call.prompt == alone.call.prompt


def test_instances_without_gold_outputs_are_named() -> None:
    def bare(task_id: str) -> Task:
        task = make_task(task_id, n_instances=2)
        last = task.instances[1].model_copy(update={"outputs": (" ",)})
        return task.model_copy(update={"instances": (task.instances[0], last)})

    with pytest.raises(InputError, match="b/i1, field 'outputs': has no gold output"):
        asyncio.run(TaskScorer(FakeBackend(), design(), "v").check([bare("b")]))

    async def main() -> list[TaskScore | SkippedTask]:
        scorer = TaskScorer(FakeBackend(), design(), "v", skip_faulty=True)
        return [one async for one in scorer.score([make_task("a"), bare("b")])]

    a, b = asyncio.run(main())
    assert isinstance(a, TaskScore)
    assert isinstance(b, SkippedTask)


def test_a_loss_of_nothing_is_left_out() -> None:
    rows = [
        {"instance_id": i, "perturbation": 0, "given": given, "n_tokens": 2, "logprob": logprob}
        for i, alone in (("a", -4.0), ("b", 0.0))
        for given, logprob in (("prompt", -2.0), ("input", -8.0), ("nothing", alone))
    ]
    values = DifficultyQuestion().values(rows, make_task())
    assert values[NAME] == 0.5
    assert values[f"{NAME}_given_input"] == 0.25
    assert values["prompt_information"] == pytest.approx(0.0)
    assert values["instruction_information"] == pytest.approx(3.0)
    assert all(value is not None and math.isfinite(value) for value in values.values())
