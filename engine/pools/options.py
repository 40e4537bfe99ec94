"""How a pool is to be read, where its files do not say it themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import Field

from engine.errors import InputError
from engine.tasks import Record

Column = Annotated[str, Field(min_length=1)]
_C = TypeVar("_C", bound=Record)


class Columns(Record):
    """Names of the columns (keys of JSON records) that hold a part of a task.

    Unset columns have the names that are usual for the format.

    Attributes:
        id: Id of a row's task, or of its instance where rows are grouped; `id` if there is one,
            or else made from the file name and the row's number.
        task: The column by whose values rows are grouped into tasks. Without it each row is a task
            of its own, except that chat messages and prompts with a definition are grouped by a
            column `task` if there is one. `system` stands for the system message of chat messages.
        definition: The instruction; `instruction` in the Alpaca form, `definition` beside prompts
            and, if there is one, beside messages, which otherwise give it as system message.
        input: An instance's input; `input` in the Alpaca form, or `context` where there is no such
            column, `prompt` beside completions.
        output: An instance's gold output, or a list of them; `output` or `completion`.
        messages: Chat messages; `messages` or `conversations`.
        category: The task's category; `category` if there is one. Not used for
            Super-NaturalInstructions and our own form, which have a category of their own.
    """

    id: Column | None = None
    task: Column | None = None
    definition: Column | None = None
    input: Column | None = None
    output: Column | None = None
    messages: Column | None = None
    category: Column | None = None


class PoolOptions(Record):
    """How a pool is read.

    Attributes:
        format: A name listed in `engine.pools.formats.FORMATS`; detected when unset.
        columns: Where the parts of a task are.
        split: `train` or `test` of a Super-NaturalInstructions folder with split files, or a split
            of a data set.
        subset: The configuration of a data set on the hub, for those that have several.
        max_instances: Keep this many instances of each task, drawn with the seed as scoring does;
            all when unset. It bounds the memory that a single task needs.
        seed: Seed of that draw.
    """

    format: str | None = None
    columns: Columns = Columns()
    split: Annotated[str, Field(min_length=1)] | None = None
    subset: Annotated[str, Field(min_length=1)] | None = None
    max_instances: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0


def parse_columns(assignments: Iterable[str], kind: type[_C]) -> _C:
    """Columns from `role=name` words, as they are given on the command line.

    Args:
        kind: The record whose fields are the roles.

    Raises:
        InputError: If a word is none of these, or names an unknown role; it lists the roles.
    """
    named: dict[str, str] = {}
    for assignment in assignments:
        role, _, name = assignment.partition("=")
        if role not in kind.model_fields or not name:
            roles = ", ".join(kind.model_fields)
            problem = f"expected ROLE=NAME, found {assignment!r}; roles: {roles}"
            raise InputError(problem, field="column")
        if role in named:
            raise InputError(f"the role {role!r} is given twice", field="column")
        named[role] = name
    return kind(**named)
