"""The one schema of tasks that every room shares.

Field names follow Super-NaturalInstructions (Wang et al., EMNLP 2022), in snake case.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engine.errors import InputError
from engine.schema_text import describe
from engine.unicode_text import NOT_UNICODE, is_unicode

_LABELS = 10  # distinct outputs that a task without named labels has, at most, to be one
_PER_LABEL = 5  # instances per distinct output, at least


def id_fault(text: str) -> str | None:
    """Why a text cannot be an id, for ids stand one a line in lists; None if it can."""
    if not text.strip():
        return "empty"
    if text != text.strip() or text.startswith("\ufeff"):
        return f"an id must not begin or end with a blank: {text!r}"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        return f"an id must not hold a line break or a control character: {text!r}"
    return None


def _checked_id(text: str) -> str:
    if problem := id_fault(text):
        raise InputError(problem)
    return text


Id = Annotated[str, Field(min_length=1), AfterValidator(_checked_id)]

_T = TypeVar("_T")

Several = Annotated[tuple[_T, ...], Field(fail_fast=True)]
"""A list that anybody may send: its first fault is told, and not one for each of millions."""


class Record(BaseModel):
    """Base of all immutable records; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=describe)


class Example(Record):
    """A worked example shown inside the prompt.

    Attributes:
        input: The example's input.
        output: The example's output (a wrong one in a negative example).
        explanation: Why the output is right (or wrong); may be empty.
    """

    input: str
    output: str
    explanation: str = ""


class Instance(Record):
    """One input of a task.

    Attributes:
        id: Unique within its task.
        input: What the model is asked about; may be empty for tasks that are their own input.
        outputs: Zero or more gold outputs, each of them acceptable; read them as `golds`.
    """

    id: Id
    input: str
    outputs: Several[str] = ()

    @property
    def golds(self) -> tuple[str, ...]:
        """The gold outputs there are: one that is empty or white space only is none."""
        return tuple(filter(str.strip, self.outputs))


class Task(Record):
    """A definition with its examples and instances.

    Attributes:
        id: Unique within its pool.
        definition: The instruction.
        positive_examples: Worked examples with right outputs, in prompt order.
        negative_examples: Worked examples with wrong outputs, in prompt order.
        instances: The inputs the task is measured and trained on.
        category: The kind of task; held-out evaluation shares no category with training.
        labels: All admissible outputs, if the task is a classification and they are known.
        classification: Whether it is one, where its source says so.
    """

    id: Id
    definition: Annotated[str, Field(min_length=1)]
    positive_examples: Several[Example] = ()
    negative_examples: Several[Example] = ()
    instances: Several[Instance] = ()
    category: str | None = None
    labels: Several[str] = ()
    classification: bool | None = None

    @property
    def is_classification(self) -> bool:
        """Whether the task has few admissible outputs, as it is said or to be seen.

        Where the source does not say so and no labels are named, a task counts as one whose gold
        outputs are two to ten different ones, each of them there five times on average.
        """
        if self.classification is not None or self.labels:
            return self.classification is not False
        outputs = [instance.golds[0] for instance in self.instances if instance.golds]
        different = len(set(outputs))
        return 1 < different <= _LABELS and len(outputs) >= _PER_LABEL * different

    def sample_instances(self, n: int, seed: int) -> tuple[Instance, ...]:
        """Up to `n` instances, drawn without replacement and kept in the task's order.

        The draw depends on the seed and the task id alone, so it is the same in every process.
        """
        if len(self.instances) <= n:
            return self.instances
        chosen = sample_positions(self.id, len(self.instances), n, seed)
        return tuple(self.instances[index] for index in chosen)

    def with_instances(self, instances: Iterable[Instance]) -> Task:
        """The task with some of its instances, in another order or not; there may be none."""
        return self.model_copy(update={"instances": tuple(instances)})


class TaskFault(NamedTuple):
    """What is wrong with a task: the problem, the field, and the part of the task it is in."""

    problem: str
    field: str
    part: str = ""

    def error(self, task_id: str) -> InputError:
        """The same as an error."""
        record = f"{task_id}, {self.part}" if self.part else task_id
        return InputError(self.problem, record=record, field=self.field)


def task_faults(task: Task) -> Iterator[TaskFault]:
    """What no task may have, whether it comes from a file, over HTTP or from a program.

    Blanks at the ends of labels and outputs do not count.
    """
    if not task.definition.strip():
        yield TaskFault("empty", "definition")
    if not task.instances:
        yield TaskFault("a task needs at least one instance", "instances")
    labels = set(map(str.strip, task.labels))
    if len(labels) < len(task.labels):
        yield TaskFault("holds a label twice", "labels")
    first: dict[str, int] = {}
    for index, instance in enumerate(task.instances):
        part = f"instances[{index}]"
        if (seen := first.setdefault(instance.id, index)) != index:
            yield TaskFault(f"{instance.id!r} is also the id of instances[{seen}]", "id", part)
        for output in instance.golds:
            if labels and output.strip() not in labels:
                yield TaskFault(f"{output!r} is none of the task's labels", "outputs", part)
    for name in ("positive_examples", "negative_examples"):
        for index, example in enumerate(getattr(task, name)):
            if not example.output.strip():
                yield TaskFault("empty", "output", f"{name}[{index}]")
    yield from unicode_faults(task)


def unicode_faults(task: Task) -> Iterator[TaskFault]:
    """The texts of a task that JSON cannot hold."""

    def faults(value: Any, field: str, part: str) -> Iterator[TaskFault]:
        for text in value if isinstance(value, tuple) else [value]:
            if isinstance(text, str) and not is_unicode(text):
                yield TaskFault(NOT_UNICODE, field, part)

    for field, given in task:
        yield from faults(given, field, "")
        for index, one in enumerate(given if isinstance(given, tuple) else ()):
            for name, value in one if isinstance(one, Record) else ():
                yield from faults(value, name, f"{field}[{index}]")


def check_task(task: Task) -> None:
    """That a task has none of the `task_faults`.

    Raises:
        InputError: The first of them.
    """
    for fault in task_faults(task):
        raise fault.error(task.id)


def sample_positions(task_id: str, size: int, n: int, seed: int) -> list[int]:
    """Positions of a sample of `n` out of a task's `size` instances, ascending; n <= size."""
    return sorted(random.Random(f"instances/{seed}/{task_id}").sample(range(size), n))


def digest_tasks(tasks: Iterable[Task]) -> str:
    """sha256 over tasks in order, as 64 hex digits."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(task.model_dump_json().encode())
        digest.update(b"\n")
    return digest.hexdigest()


class Pool(Sequence[Task]):
    """An ordered set of tasks with unique ids.

    Args:
        tasks: The tasks, in the order in which they are scored and in which ties are broken.
        source: Where they came from, for messages.

    Raises:
        InputError: If two tasks share an id, or a task has two instances with one id.
    """

    def __init__(self, tasks: Sequence[Task], source: str = "pool") -> None:
        self.source = source
        self._tasks = tuple(tasks)
        self._by_id: dict[str, Task] = {}
        for task in self._tasks:
            if task.id in self._by_id:
                raise InputError("two tasks share this id", file=source, record=task.id, field="id")
            if len({instance.id for instance in task.instances}) != len(task.instances):
                raise InputError(
                    "two instances share an id", file=source, record=task.id, field="instances"
                )
            self._by_id[task.id] = task

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._tasks[index]

    def subset(self, task_ids: Sequence[str]) -> Pool:
        """The named tasks, in the order of the names; `KeyError` if one is not there."""
        return Pool([self._by_id[task_id] for task_id in task_ids], self.source)

    def digest(self) -> str:
        """sha256 over all tasks in order, as 64 hex digits: the pool's part of every cache key."""
        return digest_tasks(self._tasks)
