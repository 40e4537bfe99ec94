"""Rows that hold one instance each: the Alpaca form, prompts with completions, chat messages."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any, NamedTuple

from engine.pools.checks import Checker
from engine.pools.options import Columns
from engine.pools.rows import Row

SYSTEM = "system"
"""Name of the column that stands for the system message."""

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_LONGEST_ID = 80


class RowParts(NamedTuple):
    """What a row says.

    Attributes:
        definition: The instruction; empty if the row has none.
        input: The instance's input.
        outputs: Its gold outputs.
    """

    definition: str
    input: str
    outputs: tuple[str, ...]


def parse_alpaca(row: Row, columns: Columns, check: Checker) -> RowParts:
    """Instruction, input and output; the input may be empty or left out."""
    definition_name = columns.definition or "instruction"
    input_name = columns.input or "input"
    output_name = columns.output or "output"
    text = row.values.get(input_name)
    if text is None and columns.input is not None and columns.input not in row.values:
        check.fault("missing", input_name)
    return RowParts(
        check.text(row.values.get(definition_name), definition_name),
        "" if text is None else check.string(text, input_name),
        check.outputs(row.values.get(output_name), output_name),
    )


def parse_prompt_completion(row: Row, columns: Columns, check: Checker) -> RowParts:
    """A prompt and its completion, both texts or both lists of chat messages."""
    prompt_name = columns.input or "prompt"
    output_name = columns.output or "completion"
    prompt, output = row.values.get(prompt_name), row.values.get(output_name)
    definition = _definition(row, columns, check)
    if isinstance(prompt, list):
        answer = check.items(output, output_name)
        if check.bad:
            return RowParts("", "", ())
        system, text, outputs = _messages([*prompt, *answer], prompt_name, check)
        return RowParts(definition or system, text, outputs)
    return RowParts(definition, check.text(prompt, prompt_name), check.outputs(output, output_name))


def parse_chat(row: Row, columns: Columns, check: Checker) -> RowParts:
    """Chat messages, of which the last is the assistant's and the gold output."""
    name = columns.messages or ("messages" if "messages" in row.values else "conversations")
    messages = check.items(row.values.get(name), name)
    if check.bad:
        return RowParts("", "", ())
    definition = _definition(row, columns, check)
    system, text, outputs = _messages(messages, name, check)
    return RowParts(definition or system, text, outputs)


def _definition(row: Row, columns: Columns, check: Checker) -> str:
    if columns.definition is None and row.values.get("definition") is None:
        return ""
    name = columns.definition or "definition"
    if name == SYSTEM and name not in row.values:
        return ""
    return check.text(row.values.get(name), name)


def _messages(messages: list[Any], name: str, check: Checker) -> tuple[str, str, tuple[str, ...]]:
    """System message, input and outputs.

    One user message is the input as it stands; of several turns it is a transcript.
    """
    turns = [_message(message, f"{name}[{index}]", check) for index, message in enumerate(messages)]
    if check.bad:
        return "", "", ()
    system = "\n\n".join(content for role, content in turns if role == "system")
    spoken = [(role, content) for role, content in turns if role != "system"]
    if not spoken or spoken[-1][0] != "assistant":
        check.fault("the last message is not the assistant's", name)
    elif not any(role == "user" for role, _ in spoken):
        check.fault("there is no message of a user", name)
    if check.bad:
        return "", "", ()
    *before, (_, output) = spoken
    if len(before) == 1:
        return system, before[0][1], (output,)
    return system, "\n\n".join(f"{role}: {content}" for role, content in before), (output,)


def _message(message: Any, part: str, check: Checker) -> tuple[str, str]:
    """Role and content; in the words of OpenAI or those of ShareGPT."""
    if not isinstance(message, dict):
        check.mapping(message, part)
        return "", ""
    role_name, content_name = ("from", "value") if "from" in message else ("role", "content")
    role = check.text(message.get(role_name), role_name, part)
    content = check.text(message.get(content_name), content_name, part)
    if role and role not in _ROLES:
        check.fault(f"unknown role {role!r}; valid: {', '.join(_ROLES)}", role_name, part)
    return _ROLES.get(role, ""), content


def row_key(row: Row, column: str, parts: RowParts, check: Checker) -> str:
    """What the row's task is named by: the value of the column, made fit to be an id."""
    if column == SYSTEM and column not in row.values:
        return as_id(check.text(parts.definition or None, SYSTEM))
    return as_id(check.name(row.values.get(column), column))


def as_id(value: str) -> str:
    """The value on one line; a long one is cut and told apart from others by a hash."""
    line = " ".join(value.split())
    if len(line) <= _LONGEST_ID:
        return line
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
    return f"{line[:60].rstrip()}-{digest[:12]}"


def row_id(row: Row, columns: Columns, check: Checker) -> str:
    """The row's own id: that of its id column, or else file name and number."""
    name = columns.id or "id"
    value = row.values.get(name)
    if value is None and columns.id is None:
        return f"{PurePath(row.file).stem}-{row.number}"
    return check.identifier(value, name)
