"""Which columns of a row make its pairs, and what is wrong with those that make none."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.errors import InputError
from engine.pools.checks import kind
from engine.pools.options import Column
from engine.pools.rows import Row
from engine.pools.unused import BESIDE_MESSAGES, TOOL_CALLS, is_empty
from engine.protocol.completions import ChatPair, Message, TextPair
from engine.tasks import Record
from engine.unicode_text import NOT_UNICODE, is_unicode

_PROMPTS = ("prompt",)
_COMPLETIONS = ("completion", "completions")
_MESSAGES = ("messages",)
_BESIDE_CONTENT = {*TOOL_CALLS, *BESIDE_MESSAGES}
_THOUGHTS = ("thinking", "reasoning", "reasoning_content")
"""What templates leave out of all turns but the last."""


class PairColumns(Record):
    """Names of the columns (keys of JSON records) that hold the parts of a pair.

    Attributes:
        prompt: A text, which may be empty; `prompt`. Where there is none and `completion` is named,
            completions stand alone, behind the beginning of sequence.
        completion: A text, or a list of them, each behind the same prompt; `completion` or
            `completions`.
        messages: A conversation, each message an object with `role` and `content`; `messages`.
            Where there is no column of completions its last turn, the assistant's, is the
            completion.
    """

    prompt: Column | None = None
    completion: Column | None = None
    messages: Column | None = None


class RowPair(NamedTuple):
    """A pair of a row, before it is a record that travels.

    Attributes:
        prompt: A text, or role and content of each message.
        completion: A text; None: the last message.
    """

    prompt: str | tuple[tuple[str, str], ...]
    completion: str | None

    @property
    def order(self) -> str:
        """Sorted by it, pairs stand beside those with which they share most."""
        prompt = self.prompt if isinstance(self.prompt, str) else json.dumps(self.prompt)
        return f"{prompt}\0{self.completion or ''}"

    @property
    def sent(self) -> TextPair | ChatPair:
        """As it travels."""
        if isinstance(self.prompt, str):
            return TextPair(prompt=self.prompt, completion=self.completion or "")
        messages = tuple(Message(role=role, content=content) for role, content in self.prompt)
        return ChatPair(messages=messages, completion=self.completion)


@dataclass(frozen=True)
class PairForm:
    """The columns of one file that make its pairs.

    Attributes:
        prompt: The column of prompts; None where there are conversations, or no prompts.
        messages: The column of conversations; None where there are prompts.
        completion: The column of completions; None: the last turn of a conversation.
        several: Whether a row has a list of completions.
    """

    prompt: str | None
    messages: str | None
    completion: str | None
    several: bool = False

    @classmethod
    def find(cls, columns: PairColumns, first: Collection[Row], source: str) -> PairForm:
        """The form of a file, by the columns that are named and those of its first rows.

        Raises:
            InputError: If a column is missing, or it is open which of them to take.
        """
        there = {name: None for row in first for name in row.values}
        for role, name in columns.model_dump(exclude_none=True).items():
            if name not in there:
                raise _no_column(repr(name), there, source, role)
        prompt, messages = columns.prompt, columns.messages
        if prompt is None and messages is None:
            prompt, messages = _usual(_PROMPTS, there), _usual(_MESSAGES, there)
        if prompt is not None and messages is not None:
            problem = f"holds both {prompt!r} and {messages!r}; name one: --column prompt=NAME"
            raise InputError(problem, file=source)
        if prompt is None and messages is None and columns.completion is None:
            raise _no_column("'prompt' and no column 'messages'", there, source, "prompt")
        completion = columns.completion or _usual(_COMPLETIONS, there)
        if completion is None and messages is None:
            raise _no_column("'completion'", there, source, "completion")
        several = any(isinstance(row.values.get(completion or ""), list) for row in first)
        return cls(prompt, messages, completion, several)

    def pairs(self, row: Row) -> list[RowPair]:
        """The pairs of a row, at least one.

        Raises:
            InputError: Naming the row and the field, if one is missing, null, of another kind or
                empty, or a conversation has no turn to score, or more than roles and contents.
        """
        return list(_Cells(row).pairs(self))


def _usual(names: Collection[str], there: Collection[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _no_column(what: str, there: Collection[str], source: str, role: str) -> InputError:
    named = ", ".join(map(repr, there)) or "none"
    problem = f"no column {what}; there are: {named} (--column {role}=NAME names it)"
    return InputError(problem, file=source)


class _Cells:
    """The cells of one row, checked as they are read."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def pairs(self, form: PairForm) -> Iterator[RowPair]:
        prompt: str | tuple[tuple[str, str], ...]
        if form.messages is not None:
            self._refuse(self._row.values, BESIDE_MESSAGES - {form.messages, form.completion})
            prompt = tuple(self._messages(form.messages, ends=form.completion is None))
        else:
            prompt = self._text(self._cell(form.prompt), form.prompt) if form.prompt else ""
        if form.completion is None:
            yield RowPair(prompt, None)
        elif not form.several:
            yield RowPair(prompt, self._completion(self._cell(form.completion), form.completion))
        else:
            for number, completion in enumerate(self._list(form.completion)):
                name = f"{form.completion}[{number}]"
                yield RowPair(prompt, self._completion(completion, name))

    def _messages(self, field: str, *, ends: bool) -> Iterator[tuple[str, str]]:
        role = name = content = ""
        message: dict[str, Any] = {}
        for number, message in enumerate(self._list(field)):
            name = f"{field}[{number}]"
            if not isinstance(message, dict):
                raise self._fault(f"expected an object, found {kind(message)}", name)
            role = self._text(message.get("role"), f"{name}.role")
            self._refuse(message, _BESIDE_CONTENT, f"{name}.")
            content = self._text(message.get("content"), f"{name}.content")
            yield role, content
        if ends and role != "assistant":
            problem = f"the last turn is the {role}'s; an assistant turn is what is scored"
            raise self._fault(problem, field)
        if ends:
            self._refuse(message, _THOUGHTS, f"{name}.")
            self._completion(content, f"{name}.content")
        if not ends and role == "assistant":
            problem = "the last turn is the assistant's, and there is a completion to follow it"
            raise self._fault(problem, field)

    def _refuse(self, values: dict[str, Any], names: Collection[str], before: str = "") -> None:
        """That nothing of a conversation is there but roles and contents."""
        for name in values:
            if name in names and not is_empty(values[name]):
                problem = "is not scored, and without it the conversation is another one; leave it "
                raise self._fault(f"{problem}out to score that", before + name)

    def _completion(self, value: Any, field: str) -> str:
        text = self._text(value, field)
        if not text.strip():
            raise self._fault("only white space" if text else "empty", field)
        return text

    def _list(self, field: str) -> list[Any]:
        value = self._cell(field)
        if not isinstance(value, list):
            raise self._fault(f"expected a list, found {kind(value)}", field)
        if not value:
            raise self._fault("empty", field)
        return value

    def _cell(self, field: str) -> Any:
        if field not in self._row.values:
            raise self._fault("missing", field)
        return self._row.values[field]

    def _text(self, value: Any, field: str) -> str:
        if value is None:
            raise self._fault("null", field)
        if not isinstance(value, str):
            raise self._fault(f"expected a text, found {kind(value)}", field)
        if not is_unicode(value):
            raise self._fault(NOT_UNICODE, field)
        return value

    def _fault(self, problem: str, field: str) -> InputError:
        return InputError(problem, file=self._row.file, record=self._row.place, field=field)
