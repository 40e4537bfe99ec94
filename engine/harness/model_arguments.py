"""What `--model_args` may hold: the harness makes numbers of texts that look like some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InputError

_KINDS: dict[str, tuple[type, str]] = {
    "max_length": (int, "a number of tokens"),
    "prefix_token_id": (int, "the id of a token"),
    "max_gen_toks": (int, "a number of tokens"),
    "chat_template_args": (dict, "a JSON object"),
    "think_end_token": (str, "the text of the token, not its id"),
    "engine_args": (str, "flags of vLLM"),
    "truncation_side": (str, "left, right or middle"),
}
_SIDES = ("left", "right", "middle")


def check_arguments(unknown: Mapping[str, Any], **given: Any) -> None:
    """That arguments are known, and of their kinds.

    Raises:
        InputError: If one is not.
    """
    for name, value in unknown.items():
        flag = f"--{name.replace('_', '-')}={value}"
        problem = f"no argument of jostle's; flags of vLLM go into engine_args, such as {flag}"
        if name == "enable_thinking":
            problem = "no argument of jostle's; it goes into chat_template_args"
        raise InputError(problem, field=name)
    for name, value in given.items():
        kind, said = _KINDS[name]
        fits = value is None or isinstance(value, kind)
        if name == "truncation_side":
            fits = value in _SIDES
        if not fits:
            raise InputError(f"expected {said}, found {value!r}", field=name)
