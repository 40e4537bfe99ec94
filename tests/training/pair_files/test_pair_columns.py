from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InputError
from engine.pools.rows import Row
from training.pair_files.pair_columns import PairColumns, PairForm, RowPair

USER = {"role": "user", "content": "Which?"}
ASSISTANT = {"role": "assistant", "content": "This."}


def row(**values: Any) -> Row:
    return Row("f.jsonl", "line 3", 3, values)


def form_of(each: Row, **columns: str) -> PairForm:
    return PairForm.find(PairColumns(**columns), [each], "f.jsonl")


def pairs_of(each: Row, **columns: str) -> list[RowPair]:
    return form_of(each, **columns).pairs(each)


def test_prompt_and_completion() -> None:
    assert pairs_of(row(prompt="", completion=" a")) == [RowPair("", " a")]


def test_named_columns_win_over_those_of_usual_names() -> None:
    each = row(prompt="no", question="Q", completion="no", answer="A", messages=[])
    assert pairs_of(each, prompt="question", completion="answer") == [RowPair("Q", "A")]


def test_named_completions_may_stand_alone() -> None:
    assert pairs_of(row(text="A text."), completion="text") == [RowPair("", "A text.")]


def test_a_list_of_completions_is_a_pair_each() -> None:
    assert pairs_of(row(prompt="Q", completions=["a", "b"])) == [
        RowPair("Q", "a"),
        RowPair("Q", "b"),
    ]


def test_the_last_turn_of_a_conversation_is_the_completion() -> None:
    (pair,) = pairs_of(row(messages=[USER, ASSISTANT]))
    assert pair.completion is None
    assert pair.sent.model_dump()["messages"][1]["content"] == "This."


def test_a_completion_may_follow_a_conversation() -> None:
    (pair,) = pairs_of(row(messages=[USER], completion="That."))
    assert pair == RowPair((("user", "Which?"),), "That.")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": None, "completion": "a"}, "field 'prompt': null"),
        ({"completion": "a"}, "field 'prompt': missing"),
        ({"prompt": 3, "completion": "a"}, "field 'prompt': expected a text, found a number"),
        ({"prompt": "Q", "completion": None}, "field 'completion': null"),
        ({"prompt": "Q", "completion": ""}, "field 'completion': empty"),
        ({"prompt": "Q", "completion": " \n"}, "field 'completion': only white space"),
        ({"prompt": "Q", "completion": "\ud800"}, "field 'completion': not Unicode"),
    ],
)
def test_faults_of_a_row_name_it_and_the_field(values: dict[str, Any], said: str) -> None:
    form = PairForm("prompt", None, "completion")
    with pytest.raises(InputError, match=r"^f\.jsonl, record line 3, ") as fault:
        form.pairs(row(**values))
    assert said in str(fault.value)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (None, "field 'messages': expected a list, found null"),
        ([], "field 'messages': empty"),
        ([USER], "the last turn is the user's; an assistant turn is what is scored"),
        (["x"], "field 'messages[0]': expected an object, found a text"),
        ([{"content": "x"}], "field 'messages[0].role': null"),
        ([USER, {"role": "assistant", "content": " "}], "'messages[1].content': only white space"),
    ],
)
def test_faults_of_a_conversation(messages: Any, said: str) -> None:
    with pytest.raises(InputError, match="line 3") as fault:
        PairForm(None, "messages", None).pairs(row(messages=messages))
    assert said in str(fault.value)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"messages": [USER, ASSISTANT | {"tool_calls": [{}]}]}, "messages[1].tool_calls"),
        ({"messages": [USER | {"images": ["a.png"]}, ASSISTANT]}, "messages[0].images"),
        ({"messages": [USER, ASSISTANT | {"thinking": "Hm."}]}, "messages[1].thinking"),
        ({"messages": [USER, ASSISTANT], "tools": [{"name": "search"}]}, "tools"),
    ],
)
def test_another_conversation_is_not_scored(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as fault:
        pairs_of(row(**values))
    assert fault.value.field == field
    assert "without it the conversation is another one" in fault.value.problem
    assert pairs_of(row(messages=[USER | {"tool_calls": None}, ASSISTANT], tools="[]"))
    assert pairs_of(row(messages=[USER, ASSISTANT | {"thinking": "Hm."}, USER, ASSISTANT]))
    columns = PairForm(None, "messages", "functions")
    assert columns.pairs(row(messages=[USER], functions="f()"))


def test_a_fault_in_a_list_of_completions_names_the_place() -> None:
    each = row(prompt="Q", completions=["a", ""])
    with pytest.raises(InputError, match=r"field 'completions\[1\]': empty"):
        pairs_of(each)


@pytest.mark.parametrize(
    ("values", "columns", "said"),
    [
        ({"text": "x"}, {}, "no column 'prompt' and no column 'messages'; there are: 'text'"),
        ({"prompt": "x"}, {}, "no column 'completion'; there are: 'prompt'"),
        ({"prompt": "x", "completion": "y"}, {"prompt": "q"}, "no column 'q'"),
        ({"prompt": "x", "messages": [], "completion": "y"}, {}, "both 'prompt' and 'messages'"),
    ],
)
def test_a_missing_column_lists_those_there_are(
    values: dict[str, Any], columns: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=r"^f\.jsonl: ") as fault:
        form_of(row(**values), **columns)
    assert said in str(fault.value)
