"""What `--model_args` gets wrong is told before an engine is started."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InputError
from engine.harness.model_arguments import check_arguments


def test_an_unknown_argument_is_told_where_flags_of_vllm_go() -> None:
    with pytest.raises(InputError) as told:
        check_arguments({"max_num_seqs": 8})
    assert str(told.value) == (
        "field 'max_num_seqs': no argument of jostle's; flags of vLLM go into engine_args, such as "
        "--max-num-seqs=8"
    )
    with pytest.raises(InputError, match="it goes into chat_template_args"):
        check_arguments({"enable_thinking": False})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("think_end_token", 200008),
        ("max_length", "long"),
        ("chat_template_args", "a"),
        ("truncation_side", "Left"),
        ("truncation_side", None),
    ],
)
def test_an_argument_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"expected .*, found") as told:
        check_arguments({}, **{name: value})
    assert told.value.field == name


def test_arguments_may_be_left_out_or_right() -> None:
    check_arguments({}, think_end_token=None, max_length=64, chat_template_args={})
    check_arguments({}, truncation_side="middle")
