"""Prompts: the layout to the letter, and token ids that mean what they should in every family."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.prompts import PromptBuilder, super_natural_instructions
from engine.prompts.prompt_config import PromptConfig
from engine.tasks import Example, Instance, Task
from tests.engine.examples import make_task
from tests.engine.small_tokenizers import CHAT_TEMPLATE, PLAIN_FAMILIES, chat, gpt2

TASK = Task(
    id="colors",
    definition="Say the color of the thing",
    positive_examples=(
        Example(input="grass", output="green", explanation="It is summer."),
        Example(input="Which color is blood?", output="red."),
    ),
    negative_examples=(Example(input=" sea ", output="red", explanation="Blue it is"),),
    instances=(Instance(id="i0", input="sky", outputs=("blue",)),),
)

GOLDEN = """\
Definition: Say the color of the thing.

 Positive Example 1 -
Input: grass.
Output: green.

 Positive Example 2 -
Input: Which color is blood?
Output: red.

 Negative Example 1 -
Input: sea.
Output: red.

Now complete the following example -
Input: sky.
Output:"""

GOLDEN_WITH_EXPLANATIONS = """\
Definition: Say the color of the thing.

 Positive Example 1 -
Input: grass.
Output: green.
Explanation: It is summer.

 Positive Example 2 -
Input: Which color is blood?
Output: red.

 Negative Example 1 -
Input: sea.
Output: red.
Explanation: Blue it is.

Now complete the following example -
Input: sky.
Output:"""


def make_builder(tokenizer: Any, context: int = 4096, **config: Any) -> PromptBuilder:
    return PromptBuilder(tokenizer, PromptConfig(**config), context)


def tokens(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(list(ids)))


# --- The text ---------------------------------------------------------------------------------


def test_layout() -> None:
    assert super_natural_instructions(TASK, TASK.instances[0], False) == GOLDEN


def test_layout_with_explanations() -> None:
    config = PromptConfig(explanations=True)
    text = super_natural_instructions(TASK, TASK.instances[0], config.explanations)
    assert text == GOLDEN_WITH_EXPLANATIONS


def test_layout_without_examples() -> None:
    text = super_natural_instructions(show(TASK, Shown(0, 0)), TASK.instances[0], False)
    assert text == (
        "Definition: Say the color of the thing.\n\n"
        "Now complete the following example -\nInput: sky.\nOutput:"
    )


def test_a_chat_template_stands_around_the_prompt() -> None:
    builder = make_builder(chat())
    assert builder.uses_chat_template
    assert builder.text(TASK, TASK.instances[0]) == (
        f"<|im_start|>user\n{GOLDEN}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chat_template_is_not_used_when_told_so() -> None:
    builder = make_builder(chat(), chat_template="never")
    assert builder.text(TASK, TASK.instances[0]) == GOLDEN


def test_a_prompt_that_looks_like_a_template_is_left_alone() -> None:
    odd = TASK.model_copy(update={"definition": "Write {{ messages }} and {% if %}"})
    assert "Definition: Write {{ messages }} and {% if %}\n" in make_builder(chat()).text(
        odd, odd.instances[0]
    )


def _with_template(template: str) -> Any:
    tokenizer = PLAIN_FAMILIES["gpt2"].__wrapped__()  # type: ignore[attr-defined]
    tokenizer.chat_template = template
    return tokenizer


def test_a_chat_template_must_show_the_message_once() -> None:
    with pytest.raises(InputError, match="leaves the user message out"):
        make_builder(_with_template("hello"))
    with pytest.raises(InputError, match="shows the user message more than once"):
        make_builder(_with_template("{{ messages[0]['content'] }} {{ messages[0]['content'] }}"))


def test_a_demanded_chat_template_must_be_there() -> None:
    with pytest.raises(InputError, match=r"field 'prompt.chat_template': the tokenizer has no"):
        make_builder(gpt2(), chat_template="always")
    assert make_builder(_with_template(CHAT_TEMPLATE), chat_template="always").uses_chat_template


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = PLAIN_FAMILIES["gpt2"].__wrapped__()  # type: ignore[attr-defined]
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-sequence token"):
        make_builder(tokenizer)


# --- The token ids ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", PLAIN_FAMILIES)
def test_plain_text_gets_the_beginning_and_never_the_end(family: str) -> None:
    tokenizer = PLAIN_FAMILIES[family]()
    builder = make_builder(tokenizer)
    (ids,) = builder.encode([builder.text(TASK, TASK.instances[0])])
    begins = {"llama2": "<s>", "word_piece": "[CLS]"}.get(family)
    if begins:
        assert tokens(tokenizer, ids)[0] == begins
    assert tokenizer.eos_token_id not in ids
    # Nothing else is lost: taken apart and put together, the ids are the prompt.
    bare = tokenizer(GOLDEN, add_special_tokens=False)["input_ids"]
    assert list(ids[1:] if begins else ids) == bare


@pytest.mark.parametrize("family", PLAIN_FAMILIES)
def test_several_texts_are_encoded_as_each_one_alone(family: str) -> None:
    builder = make_builder(PLAIN_FAMILIES[family]())
    texts = ["Input: sky", "a much longer text: alpha bravo charlie delta", "x"]
    assert builder.encode(texts) == [builder.encode([text])[0] for text in texts]


def test_the_chat_template_brings_its_own_special_tokens() -> None:
    tokenizer = chat()
    builder = make_builder(tokenizer)
    (ids,) = builder.encode([builder.text(TASK, TASK.instances[0])])
    shown = tokens(tokenizer, ids)
    assert shown[0] == "<|im_start|>"
    assert shown.count("<|im_start|>") == 2
    assert shown.count("<|im_end|>") == 1
    assert tokenizer.decode(list(ids)) == builder.text(TASK, TASK.instances[0])


@pytest.mark.parametrize("family", PLAIN_FAMILIES)
@pytest.mark.parametrize("output", ["blue", "blue sea", "sky, grass: red.", "7", "delta\necho"])
def test_prompt_and_completion_concatenate(family: str, output: str) -> None:
    """Both parts side by side are the ids of the whole text, so scoring sees what it should."""
    tokenizer = PLAIN_FAMILIES[family]()
    builder = make_builder(tokenizer)
    prompt = builder.text(TASK, TASK.instances[0])
    (whole,) = builder.encode([f"{prompt} {output}"])
    (front,) = builder.encode([prompt])
    assert front + builder.completion(output) == (*whole, tokenizer.eos_token_id)


@pytest.mark.parametrize("output", ["blue", " blue", "sky, grass: red.", "7", "delta\necho"])
def test_prompt_and_completion_concatenate_under_a_chat_template(output: str) -> None:
    tokenizer = chat()
    builder = make_builder(tokenizer)
    prompt = builder.text(TASK, TASK.instances[0])
    whole = tokenizer(f"{prompt}{output}<|im_end|>", add_special_tokens=False)["input_ids"]
    (front,) = builder.encode([prompt])
    assert front + builder.completion(output) == tuple(whole)


@given(st.text(alphabet="abc :.\n7é字🙂", min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_byte_level_completions_lose_nothing(output: str) -> None:
    tokenizer = gpt2()
    *ids, end = make_builder(tokenizer).completion(output)
    assert end == tokenizer.eos_token_id
    assert tokenizer.decode(ids) == f" {output}"


# --- A short context --------------------------------------------------------------------------


def lengths(builder: PromptBuilder, task: Task) -> dict[tuple[int, int], int]:
    """Prompt length by the number of examples shown."""
    return {
        (n_positive, n_negative): len(
            builder.encode(
                [builder.text(show(task, Shown(n_positive, n_negative)), task.instances[0])]
            )[0]
        )
        for n_positive in range(3)
        for n_negative in range(3)
    }


@pytest.mark.parametrize("family", [*PLAIN_FAMILIES, "chat"])
def test_examples_give_way_negative_ones_first_and_the_last_before_the_first(family: str) -> None:
    tokenizer = chat() if family == "chat" else PLAIN_FAMILIES[family]()
    task = make_task(n_positive=3, n_negative=3)
    config = {"n_positive_examples": 2, "n_negative_examples": 2}
    length = lengths(make_builder(tokenizer, **config), task)
    order = [(2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    assert [length[shown] for shown in order] == sorted(length[shown] for shown in order)[::-1]
    for shown, next_shown in itertools.pairwise(order):
        for room, expected in (
            (length[shown], shown),
            (length[shown] - 1, next_shown),
            (length[next_shown], next_shown),
        ):
            # The output takes 5 positions, and one is kept for the token vLLM always generates.
            builder = make_builder(tokenizer, room + 5 + 1, **config)
            prompt = builder.prompt(task, task.instances[0], 5)
            assert (prompt.n_positive_examples, prompt.n_negative_examples) == expected
            assert len(prompt.token_ids) == length[expected]


def test_no_more_examples_than_asked_for_or_there() -> None:
    builder = make_builder(gpt2(), n_positive_examples=4, n_negative_examples=1)
    task = make_task(n_positive=3, n_negative=3)
    prompt = builder.prompt(task, task.instances[0], 5)
    assert (prompt.n_positive_examples, prompt.n_negative_examples) == (3, 1)


def test_a_prompt_too_long_without_examples_is_an_error_that_names_it() -> None:
    task = make_task()
    builder = make_builder(gpt2())
    bare = len(builder.encode([builder.text(show(task, Shown(0, 0)), task.instances[1])])[0])
    with pytest.raises(InputError, match=rf"the prompt has {bare} tokens without") as caught:
        make_builder(gpt2(), bare + 5).prompt(task, task.instances[1], 5)
    assert caught.value.record == "colors/i1"
    assert caught.value.field == "input"
    assert "\n" not in str(caught.value)
