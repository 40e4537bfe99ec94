"""Rows that hold one instance each: the Alpaca form, prompts with completions, chat messages."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any, NamedTuple

from engine.pools.checks import Checker
from engine.pools.options import Columns
from engine.pools.rows import Row
from engine.pools.unused import TOOL_CALLS, Watched, is_empty, tell_unused

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
    """Instruction, input and output; the input may be empty, left out, or called context.

    A system text stands before the instruction. With earlier turns (`history`, pairs of texts) the
    input is a transcript that ends in instruction and input, as of chat messages.
    """
    values = row.values
    definition_name = columns.definition or "instruction"
    input_name = columns.input or ("context" if "input" not in values else "input")
    output_name = columns.output or "output"
    text = values.get(input_name)
    if text is None and columns.input is not None and columns.input not in values:
        check.fault("missing", input_name)
    definition = check.text(values.get(definition_name), definition_name)
    text = "" if text is None else check.string(text, input_name)
    system = _system(row, columns, check)
    outputs = check.outputs(values.get(output_name), output_name)
    if turns := _history(row, check):
        last = "\n".join(filter(None, (definition, text)))
        return RowParts(system, _transcript([*turns, ("user", last)]), outputs)
    return RowParts(_joined(system, definition), text, outputs)


def parse_prompt_completion(row: Row, columns: Columns, check: Checker) -> RowParts:
    """A prompt and its completion, both texts or both lists of chat messages."""
    prompt_name = columns.input or "prompt"
    output_name = columns.output or "completion"
    prompt, output = row.values.get(prompt_name), row.values.get(output_name)
    if row.values.get("label") is False:
        check.fault("false: the completion is one that is not wanted", "label")
    definition = _joined(_system(row, columns, check), _definition(row, columns, check))
    if isinstance(prompt, list):
        answer = check.items(output, output_name)
        if check.bad:
            return RowParts("", "", ())
        system, text, outputs = _messages([*prompt, *answer], prompt_name, check)
        return RowParts(_one_of(definition, system, check), text, outputs)
    return RowParts(definition, check.text(prompt, prompt_name), check.outputs(output, output_name))


def parse_chat(row: Row, columns: Columns, check: Checker) -> RowParts:
    """Chat messages, of which the last is the assistant's and the gold output."""
    name = columns.messages or ("messages" if "messages" in row.values else "conversations")
    messages = check.items(row.values.get(name), name)
    if check.bad:
        return RowParts("", "", ())
    definition = _joined(_system(row, columns, check), _definition(row, columns, check))
    system, text, outputs = _messages(messages, name, check)
    return RowParts(_one_of(definition, system, check), text, outputs)


def _definition(row: Row, columns: Columns, check: Checker) -> str:
    if columns.definition is None and row.values.get("definition") is None:
        return ""
    name = columns.definition or "definition"
    if name == SYSTEM and name not in row.values:
        return ""
    return check.text(row.values.get(name), name)


def _system(row: Row, columns: Columns, check: Checker) -> str:
    """A system text beside the prompt, unless it is named as something else."""
    named = columns.model_dump().values()
    for name in (SYSTEM, "system_prompt"):
        if name not in named and not is_empty(text := row.values.get(name)):
            return check.string(text, name).strip()
    return ""


def _one_of(beside: str, inside: str, check: Checker) -> str:
    """The instruction, whether it stands beside the messages or is their system message."""
    if beside and inside and beside.strip() != inside.strip():
        check.fault("the messages have another system message", SYSTEM)
    return beside or inside


def _joined(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


def _history(row: Row, check: Checker) -> list[tuple[str, str]]:
    """Earlier turns beside an instruction, as role and content."""
    value = row.values.get("history")
    if is_empty(value):
        return []
    turns = []
    for index, pair in enumerate(check.items(value, "history")):
        if not isinstance(pair, list) or len(pair) != 2:
            problem = "expected a list of two texts, prompt and answer"
            check.fault(problem, None, f"history[{index}]")
            return []
        for role, text in zip(("user", "assistant"), pair, strict=True):
            turns.append((role, check.text(text, f"history[{index}]")))
    return turns


def _messages(messages: list[Any], name: str, check: Checker) -> tuple[str, str, tuple[str, ...]]:
    """System message, input and outputs.

    One user message is the input as it stands; of several turns it is a transcript. Empty system
    messages are none, and an empty answer at the end is no gold output.
    """
    turns = [_message(message, f"{name}[{index}]", check) for index, message in enumerate(messages)]
    if check.bad:
        return "", "", ()
    system = _joined(*(content for role, content in turns if role == "system" and content.strip()))
    spoken = [(role, content) for role, content in turns if role != "system"]
    if not spoken or spoken[-1][0] != "assistant":
        check.fault("the last message is not the assistant's", name)
    elif not any(role == "user" for role, _ in spoken):
        check.fault("there is no message of a user", name)
    elif not all(content.strip() for _, content in spoken[:-1]):
        check.fault("a message before the last is empty", name)
    if check.bad:
        return "", "", ()
    *before, (_, output) = spoken
    if sum(role == "assistant" for role, _ in before):
        check.note("of several answers in a conversation the last alone is a gold output")
    # OpenAI's way to say that an answer is not to be learned from.
    unwanted = messages[-1].get("weight") == 0
    outputs = (output,) if output.strip() and not unwanted else ()
    return system, before[0][1] if len(before) == 1 else _transcript(before), outputs


def _transcript(turns: list[tuple[str, str]]) -> str:
    return "\n\n".join(f"{role}: {content}" for role, content in turns)


def _message(message: Any, part: str, check: Checker) -> tuple[str, str]:
    """Role and content; in the words of OpenAI or those of ShareGPT."""
    if not isinstance(message, dict):
        check.mapping(message, part)
        return "", ""
    message = Watched(message)
    role_name, content_name = ("from", "value") if "from" in message else ("role", "content")
    role = check.text(message.get(role_name), role_name, part)
    if role and role not in _ROLES:
        check.fault(f"unknown role {role!r}; valid: {', '.join(_ROLES)}", role_name, part)
    for name in TOOL_CALLS:
        if not is_empty(message.get(name)):
            check.fault("calls of tools cannot be scored", name, part)
    content = message.get(content_name)
    tell_unused(message, check, ("weight",), part)
    if isinstance(content, list):  # of OpenAI's parts, which may be images
        for index, piece in enumerate(content):
            if not isinstance(piece, dict) or piece.get("type") != "text":
                check.fault("only parts of text can be read", f"{content_name}[{index}]", part)
                return "", ""
        content = "".join(check.string(each.get("text"), "text", part) for each in content)
    if content is None:
        check.fault("missing", content_name, part)
        return "", ""
    return _ROLES.get(role, ""), check.string(content, content_name, part)


def row_key(row: Row, column: str, parts: RowParts, check: Checker) -> str:
    """What the row's task is named by: the value of the column, made fit to be an id."""
    if column == SYSTEM and column not in row.values:
        text = check.text(parts.definition or None, SYSTEM)
    else:
        text = check.name(row.values.get(column), column)
    return "" if check.bad else check.identifier(as_id(text), column)


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
        value = place_id(row)
    return check.identifier(value, name)


def place_id(row: Row) -> str:
    """The id of a row that has none: file name and number."""
    return f"{PurePath(row.file).stem}-{row.number}"
