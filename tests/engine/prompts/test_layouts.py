"""Every layout to the letter, and its special tokens in every family of tokenizers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import InputError
from engine.perturb.base import Shown, show
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.tasks import Example, Instance, Task
from tests.engine.small_tokenizers import CHAT_FAMILIES, PLAIN_FAMILIES, chat, gpt2, llama2, llama3

TASK = Task(
    id="colors",
    definition=" Say the color of the thing ",
    positive_examples=(
        Example(input="grass", output="green", explanation="It is summer."),
        Example(input="", output="red"),
    ),
    negative_examples=(Example(input="sea", output="red", explanation="Blue it is"),),
    instances=(
        Instance(id="i0", input="sky", outputs=("blue",)),
        Instance(id="i1", input="  ", outputs=("blue",)),
    ),
    labels=("blue", "red"),
    category="seeing",
)
OWN = (
    "{{ definition }}\n{% for one in positive_examples %}"
    "{{ one.input }} -> {{ one.output }}\n{% endfor %}{{ input }} ->"
)
FAMILIES = {**PLAIN_FAMILIES, **CHAT_FAMILIES}
LAYOUTS: dict[str, dict[str, Any]] = {
    "super_natural_instructions": {},
    "plain": {},
    "alpaca": {},
    "template": {"template": OWN},
    "chat": {},
}


def make_builder(tokenizer: Any, layout: str, **config: Any) -> PromptBuilder:
    return PromptBuilder(tokenizer, PromptConfig(layout=layout, **config), 4096)


def text(layout: str, instance: int = 0, task: Task = TASK, **config: Any) -> str:
    tokenizer = chat() if layout == "chat" else gpt2()
    return make_builder(tokenizer, layout, **config).text(task, task.instances[instance])


BARE = show(TASK, Shown(0, 0))


def test_plain() -> None:
    assert text("plain", explanations=True) == (
        "Say the color of the thing\n\n"
        "Input: grass\nOutput: green\nExplanation: It is summer.\n\n"
        "Output: red\n\n"
        "Input: sea\nWrong output: red\nExplanation: Blue it is\n\n"
        "Input: sky\nOutput:"
    )
    assert text("plain", 1, BARE) == "Say the color of the thing\n\nOutput:"


def test_alpaca() -> None:
    assert text("alpaca", 0, BARE) == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSay the color of the thing\n\n### Input:\nsky\n\n### Response:"
    )
    assert text("alpaca", 1, BARE) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay the color of the thing\n\n### Response:"
    )
    assert "thing\n\nInput: grass\nOutput: green\n\nOutput: red\n\nInput: sea\nWrong" in text(
        "alpaca"
    )
    braces = BARE.model_copy(update={"definition": "Fill {input} and {0}"})
    assert "Instruction:\nFill {input} and {0}\n\n### Input:\nsky\n" in text("alpaca", 0, braces)


def test_a_conversation() -> None:
    opening = "Say the color of the thing\n\nInput: sea\nWrong output: red"
    assert text("chat") == (
        f"<|im_start|>user\n{opening}\n\ngrass<|im_end|>\n<|im_start|>assistant\ngreen<|im_end|>\n"
        f"<|im_start|>user\n{opening}<|im_end|>\n<|im_start|>assistant\nred<|im_end|>\n"
        "<|im_start|>user\nsky<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text("chat", 0, BARE) == (
        "<|im_start|>user\nSay the color of the thing\n\nsky<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "assistant\ngreen\nExplanation: It is summer.<|im_end|>" in text(
        "chat", explanations=True
    )


def test_a_template_of_ones_own() -> None:
    expected = " Say the color of the thing \ngrass -> green\n -> red\nsky ->"
    assert text("template", template=OWN) == expected
    # It says all there is to say, unless the chat template is asked for.
    instance = TASK.instances[0]
    assert make_builder(chat(), "template", template=OWN).text(TASK, instance) == expected
    wrapped = make_builder(chat(), "template", template=OWN, chat_template="always")
    assert wrapped.text(TASK, instance).startswith("<|im_start|>user\n Say the color")
    more = (
        "{{ definition }}{{ input }}{{ labels | join('/') }} {{ category }} {{ task_id }} "
        "{{ negative_examples[0].explanation if negative_examples }}{{ eos_token }}\n"
    )
    assert text("template", template=more).endswith(
        "blue/red seeing colors Blue it is<|endoftext|>"
    )


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for %}", "field 'prompt.template': line 1: "),
        ("a\n{{ definition", "line 2: "),
        ("{{ definition }} {{ inputs }}", "'inputs' is undefined"),
        ("{{ definition }}", "leaves out the input"),
        ("{{ input }}", "leaves out the definition"),
        ("{{ input }}{{ definition }}{{ 1 / 0 }}", "division by zero"),
        ("{{ input + 1 }}{{ definition }}", "can only concatenate"),
        ("{{ input.__class__.__mro__ }}{{ definition }}", "unsafe"),
        ("{{ positive_examples.append(1) }}{{ input }}{{ definition }}", "unsafe"),
    ],
)
def test_a_faulty_template_is_named(template: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        make_builder(gpt2(), "template", template=template, template_name="my.jinja")
    assert problem in str(caught.value)
    assert caught.value.file == "my.jinja"


def test_a_template_that_fails_on_one_instance_names_it() -> None:
    template = "{{ definition }} {{ input }} {% if input == 'sky' %}{{ nothing }}{% endif %}"
    builder = make_builder(gpt2(), "template", template=template)
    with pytest.raises(InputError, match="'nothing' is undefined") as caught:
        builder.text(TASK, TASK.instances[0])
    assert caught.value.record == "colors/i0"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"layout": "alpacca"},
            "unknown layout 'alpacca'; valid here: super_natural_instructions",
        ),
        ({"layout": "template"}, "the layout 'template' needs a template"),
        ({"template": "x"}, "needs a template, and no other does"),
        ({"layout": "chat", "chat_template": "never"}, "'chat' needs the chat template"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PromptConfig.model_validate(values)
    assert problem in str(caught.value)


def test_a_conversation_needs_a_chat_template() -> None:
    with pytest.raises(InputError, match="the tokenizer has no chat template"):
        make_builder(gpt2(), "chat")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ raise_exception('no system') }}", "no system"),
        ("{% for %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ messages + 1 }}", "TypeError: can only concatenate list"),
        ("{{ messages[0].nothing.more }}", "'dict object' has no attribute 'nothing'"),
        ("{{ messages | no_such }}", "No filter named 'no_such'"),
        ("{{ 'a'.index('b') }}", "ValueError: substring not found"),
        ("{{ '{0} {1}'.format(1) }}", "IndexError: "),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages | tojson(indent='x', separators=1) }}", "TypeError: "),
        (f"{{{{ {'(' * 9999}1{')' * 9999} }}}}", "RecursionError: "),
    ],
)
def test_a_chat_template_that_fails_is_an_input_error(template: str, problem: str) -> None:
    tokenizer = PLAIN_FAMILIES["gpt2"].__wrapped__()  # type: ignore[attr-defined]
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="the chat template fails: ") as caught:
        make_builder(tokenizer, "plain")
    assert problem in str(caught.value)


# --- The token ids ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_in_every_family_and_layout(family: str, layout: str) -> None:
    """The beginning stands once, at the front; the end never behind the prompt."""
    tokenizer = FAMILIES[family]()
    if layout == "chat" and family in PLAIN_FAMILIES:
        return
    builder = make_builder(tokenizer, layout, **LAYOUTS[layout])
    prompt = builder.text(TASK, TASK.instances[0])
    (ids,) = builder.encode([prompt])
    first = {
        "llama2": "<s>",
        "word_piece": "[CLS]",
        "llama3": "<|begin_of_text|>",
        "llama2_chat": "<s>",
        "chatml": None if layout == "template" else "<|im_start|>",
    }.get(family)
    assert ids[-1] != tokenizer.eos_token_id
    if first is not None:
        begin = tokenizer.convert_tokens_to_ids(first)
        assert ids[0] == begin
        assert ids[1] != begin
        turns = family == "llama2_chat" and layout == "chat"
        if family != "chatml" and not turns:  # which write it before every turn
            assert ids.count(begin) == 1
    # Nothing else is added or lost: the text alone has the same ids.
    bare = tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert ids in (bare, (tokenizer.bos_token_id, *bare))
    assert ids == bare or not builder.uses_chat_template


@pytest.mark.parametrize("family", ["llama2", "llama3", "gpt2", "unigram", "word_piece", "chatml"])
def test_a_template_that_writes_the_beginning_itself(family: str) -> None:
    tokenizer = FAMILIES[family]()
    builder = make_builder(tokenizer, "template", template="{{ bos_token }}" + OWN)
    without = make_builder(tokenizer, "template", template=OWN)
    (ids,) = builder.encode([builder.text(TASK, TASK.instances[0])])
    (expected,) = without.encode([without.text(TASK, TASK.instances[0])])
    if family in ("llama2", "llama3", "word_piece"):  # those whose tokenizer writes it anyway
        assert ids[0] == expected[0] == tokenizer.bos_token_id
        assert tokenizer.bos_token_id not in ids[1:]
        assert len(ids) in (len(expected), len(expected) + (family == "llama2"))
    elif tokenizer.bos_token_id is not None:
        assert ids == (tokenizer.bos_token_id, *expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("output", ["blue", "blue sea", "sky, grass: red.", "7"])
def test_prompt_and_completion_are_the_ids_of_the_whole(
    family: str, layout: str, output: str
) -> None:
    tokenizer = FAMILIES[family]()
    if layout == "chat" and family in PLAIN_FAMILIES:
        return
    builder = make_builder(tokenizer, layout, **LAYOUTS[layout])
    prompt = builder.text(TASK, TASK.instances[0])
    spaced = family == "llama2_chat" if builder.uses_chat_template else layout != "alpaca"
    # Llama 2's template has a blank before its end as well.
    closing = " </s>" if family == "llama2_chat" and builder.uses_chat_template else ""
    whole, front = builder.encode([f"{prompt}{' ' * spaced}{output}{closing}", prompt])
    assert front + builder.completion(output) == (whole if closing else (*whole, builder.end))


def test_an_answer_stands_where_the_chat_template_puts_it() -> None:
    """As the template itself writes a conversation that has the answer."""
    for family in CHAT_FAMILIES.values():
        tokenizer = family()
        builder = make_builder(tokenizer, "chat")
        prompt = builder.text(BARE, TASK.instances[0])
        messages = [
            {"role": "user", "content": "Say the color of the thing\n\nsky"},
            {"role": "assistant", "content": "blue"},
        ]
        written = tokenizer.apply_chat_template(messages, tokenize=False)
        expected = tokenizer(written, add_special_tokens=False)["input_ids"]
        ids = [*builder.encode([prompt])[0], *builder.completion("blue")]
        assert expected[: len(ids)] == ids


def test_a_template_that_tells_the_date_tells_the_same_every_day() -> None:
    tokenizer = copy.deepcopy(chat())
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}: {% for message in messages %}{{ message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' }}{% endfor %}"
    )
    assert make_builder(tokenizer, "chat").text(BARE, TASK.instances[0]).startswith("26 Jul 2024: ")


def test_a_template_ending_with_a_newline_is_followed_directly() -> None:
    template = "{{ definition }} {{ input }}\nAnswer:\n\n"  # of which one newline does not count
    for tokenizer in (gpt2(), llama2(), llama3()):
        builder = make_builder(tokenizer, "template", template=template)
        prompt = builder.text(TASK, TASK.instances[0])
        whole, front = builder.encode([f"{prompt}blue", prompt])
        assert front + builder.completion("blue") == (*whole, tokenizer.eos_token_id)


def test_a_template_ending_with_the_input_gets_a_blank() -> None:
    for tokenizer in (gpt2(), llama2(), llama3()):
        builder = make_builder(tokenizer, "template", template="{{ definition }} {{ input }}")
        prompt = builder.text(TASK, TASK.instances[0])
        whole, front = builder.encode([f"{prompt} blue", prompt])
        assert front + builder.completion("blue") == (*whole, tokenizer.eos_token_id)
