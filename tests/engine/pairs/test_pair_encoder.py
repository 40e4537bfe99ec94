"""How pairs become token ids, with the families of tokenizers that open models come with."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InputError
from engine.pairs.pair_encoder import EncodedPair, PairEncoder
from engine.protocol.completions import ChatPair, Encoding, Message, Pair, TextPair, TokenPair
from tests.engine.small_tokenizers import CHAT_FAMILIES, PLAIN_FAMILIES, chat, gpt2, llama2, llama3

FAMILIES = {**PLAIN_FAMILIES, **CHAT_FAMILIES}
LOSSLESS = [name for name in FAMILIES if name not in ("word_piece", "unigram")]
"""Those that decode to what they encoded."""


def encode(tokenizer: Any, pair: Pair, **encoding: Any) -> EncodedPair:
    (found,) = PairEncoder(tokenizer, Encoding(**encoding)).encode([pair])
    if isinstance(found, InputError):
        raise found
    return found


def text(prompt: str, completion: str) -> TextPair:
    return TextPair(prompt=prompt, completion=completion)


def said(*turns: str, completion: str | None = None) -> ChatPair:
    roles = ("user", "assistant")
    messages = [Message(role=roles[i % 2], content=turn) for i, turn in enumerate(turns)]
    return ChatPair(messages=tuple(messages), completion=completion)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("Say the color of", " the thing."),
        ("Input: sky.\nOutput:", " blue sea."),
        ("Say", " the\n\ncolor  of it."),
    ],
)
def test_joint_is_the_whole_without_the_prompt(family: str, prompt: str, completion: str) -> None:
    """As lm-evaluation-harness cuts it, which encodes with what the tokenizer adds in front."""
    tokenizer = FAMILIES[family]()
    found = encode(tokenizer, text(prompt, completion))
    eos = tokenizer.eos_token_id

    def bare(given: str) -> list[int]:
        ids = list(tokenizer(given)["input_ids"])
        return ids[:-1] if ids[-1] == eos else ids

    whole, front = bare(prompt + completion), bare(prompt)
    assert list(found.prompt) == front
    assert list(found.completion) == whole[len(front) :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_one_beginning_of_sequence_and_never_two(family: str, boundary: str) -> None:
    tokenizer = FAMILIES[family]()
    begin = tokenizer("Say")["input_ids"][0] == tokenizer.bos_token_id
    for prompt in ("Say the color", f"{tokenizer.bos_token or ''}Say the color"):
        found = encode(tokenizer, text(prompt, " of"), boundary=boundary, parse_special=True)
        ids = [*found.prompt, *found.completion]
        assert ids.count(tokenizer.bos_token_id) == (begin or prompt[:3] != "Say")
    bare = encode(tokenizer, text("Say the", " color"), add_special_tokens=False)
    assert tokenizer.bos_token_id not in bare.prompt
    empty = encode(tokenizer, text("", "Say"), boundary=boundary)
    first = tokenizer.bos_token_id
    assert empty.prompt == (tokenizer.eos_token_id if first is None else first,)


@pytest.mark.parametrize("family", ["llama3", "gemma", "llama2_chat"])
def test_a_chat_template_writes_its_own_beginning(family: str) -> None:
    tokenizer = CHAT_FAMILIES[family]()
    for boundary in ("joint", "separate"):
        found = encode(tokenizer, said("Say the color", completion="blue"), boundary=boundary)
        assert found.prompt.count(tokenizer.bos_token_id) == 1
        assert tokenizer.bos_token_id not in found.completion


@pytest.mark.parametrize("family", LOSSLESS)
def test_white_space_at_the_border_is_kept(family: str) -> None:
    tokenizer = FAMILIES[family]()
    for prompt, completion in (("Say the", "  color"), ("Say the \n", "color"), ("Say", " ")):
        pair = text(prompt, completion)
        joint = encode(tokenizer, pair, add_special_tokens=False)
        assert tokenizer.decode([*joint.prompt, *joint.completion]) == prompt + completion
        assert tokenizer.decode(joint.prompt) == prompt.rstrip()
        apart = encode(tokenizer, pair, add_special_tokens=False, boundary="separate")
        assert tokenizer.decode(apart.prompt) == prompt
        assert list(apart.completion) == tokenizer(completion, add_special_tokens=False).input_ids


def test_a_token_across_the_border_is_told() -> None:
    tokenizer = gpt2()
    assert len(tokenizer("color")["input_ids"]) < 5
    with pytest.raises(InputError) as told:
        encode(tokenizer, text("Say the col", "or"))
    assert told.value.record == "pairs[0]"
    assert "'Say the col' and 'or'" in str(told.value)
    assert "'separate'" in str(told.value)
    apart = encode(tokenizer, text("Say the col", "or"), boundary="separate")
    assert tokenizer.decode(apart.completion) == "or"


@pytest.mark.parametrize("family", LOSSLESS)
@pytest.mark.parametrize("boundary", ["joint", "separate"])
def test_special_tokens_in_texts_are_text_unless_told_otherwise(family: str, boundary: str) -> None:
    tokenizer = FAMILIES[family]()
    special = tokenizer.eos_token
    pair = text(f"Say {special} the", f" color {special}")
    found = encode(tokenizer, pair, boundary=boundary)
    assert tokenizer.eos_token_id not in (*found.prompt[1:], *found.completion)
    assert found.special_as_text
    acting = encode(tokenizer, pair, boundary=boundary, parse_special=True)
    assert acting.prompt[1:].count(tokenizer.eos_token_id) == 1
    assert acting.completion[-1] == tokenizer.eos_token_id, "also where the tokenizer adds none"
    assert not acting.special_as_text
    assert not encode(tokenizer, text("Say", " the")).special_as_text


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_conversation_is_what_its_template_writes(family: str) -> None:
    tokenizer = CHAT_FAMILIES[family]()
    found = encode(tokenizer, said("Say the color", completion="blue"))
    messages = [{"role": "user", "content": "Say the color"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert list(found.prompt) == tokenizer(rendered, add_special_tokens=False).input_ids
    assert tokenizer.decode(found.completion).strip() == "blue"
    last = encode(tokenizer, said("Say the color", "blue"))
    assert last == found, "the last turn is the completion where there is no other"
    hostile = encode(tokenizer, said(f"Say {tokenizer.eos_token}", completion="blue"))
    assert hostile.special_as_text


@pytest.mark.parametrize("family", [*LOSSLESS])
def test_the_token_that_ends_an_answer_is_scored_where_asked_for(family: str) -> None:
    tokenizer = FAMILIES[family]()
    plain = encode(tokenizer, text("Say", " the"))
    ended = encode(tokenizer, text("Say", " the"), add_eos_token=True)
    assert ended.completion == (*plain.completion, tokenizer.eos_token_id)
    if family in CHAT_FAMILIES:
        answer = encode(tokenizer, said("Say", completion="the"), add_eos_token=True)
        end = {"gemma": "<end_of_turn>"}.get(family, tokenizer.eos_token)
        assert answer.completion[-1] == tokenizer.convert_tokens_to_ids(end)


def test_token_ids_are_left_alone() -> None:
    pair = TokenPair(prompt_token_ids=(3, 4), completion_token_ids=(5,))
    encoding = {"add_eos_token": True, "boundary": "separate"}
    assert encode(llama2(), pair, **encoding) == EncodedPair(0, (3, 4), (5,))


def test_one_list_of_candidates_is_kept_once() -> None:
    ids = {"prompt_token_ids": (3,), "completion_token_ids": (5, 6, 7)}
    found = encode(gpt2(), TokenPair(**ids, candidate_token_ids=((8, 9),)))
    assert found.candidates == ((8, 9),)
    assert found.candidates_of_places == ((8, 9),) * 3
    found = encode(gpt2(), TokenPair(**ids, candidate_token_ids=((8,), (9,), (1,))))
    assert found.candidates_of_places == ((8,), (9,), (1,))


@pytest.mark.parametrize(
    ("tokenizer", "pair", "field", "problem"),
    [
        (gpt2, text("Say", ""), "completion", "is empty"),
        (PLAIN_FAMILIES["word_piece"], text("Say", " \n"), "completion", "nothing is left of it"),
        (gpt2, said("Say", completion="x"), "messages", "has no chat template"),
        (chat, said("Say"), "messages", "no assistant turn, and there is no completion"),
        (chat, said("Say", "x", completion="y"), "messages", "and there is a completion too"),
        (chat, said("Say", ""), "messages[1].content", "is empty"),
        (chat, said("Say", completion=""), "completion", "is empty"),
        (gpt2, text("Say \ud83d", " x"), "prompt", "not Unicode: holds half a surrogate pair"),
        (gpt2, text("Say", "\udc00"), "completion", "not Unicode"),
        (chat, said("Say", "x", "\ud83d", "y"), "messages[2].content", "not Unicode"),
        (chat, said("Say", completion="\ud83d"), "completion", "not Unicode"),
        (
            chat,
            ChatPair(messages=(Message(role="assistant", content="x"),)),
            "messages",
            "no message stands before",
        ),
    ],
)
def test_faults_name_pair_and_field(tokenizer: Any, pair: Pair, field: str, problem: str) -> None:
    good = text("Say the", " color")
    encoder = PairEncoder(tokenizer(), Encoding())
    found = encoder.encode([good, pair, good], first=7)
    assert isinstance(found[0], EncodedPair)
    assert isinstance(found[2], EncodedPair)
    assert (found[0].index, found[2].index) == (7, 9)
    fault = found[1]
    assert isinstance(fault, InputError)
    assert (fault.record, fault.field) == ("pairs[8]", field)
    assert problem in str(fault)
    assert "\n" not in str(fault)


def test_a_template_that_fails_is_the_pair_s_fault() -> None:
    tokenizer = llama3.__wrapped__()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + tokenizer.chat_template
    )
    bad = ChatPair(messages=(Message(role="system", content="x"),), completion="y")
    good, fault = PairEncoder(tokenizer, Encoding()).encode([said("a", completion="b"), bad])
    assert isinstance(good, EncodedPair)
    assert isinstance(fault, InputError)
    assert "no system" in str(fault)
