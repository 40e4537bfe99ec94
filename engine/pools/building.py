"""Tasks made of rows that hold one instance each."""

from __future__ import annotations

from collections.abc import Iterator

from engine.pools.checks import Checker, Faults
from engine.pools.formats import InstanceFormat
from engine.pools.instances import RowParts, row_id
from engine.pools.options import PoolOptions
from engine.pools.records import row_category
from engine.pools.rows import Located, Row, RowReader
from engine.tasks import Instance, Task


class TaskBuilder:
    """Makes one task of its rows.

    Args:
        task_id: The task's id.
        form: The format of the rows.
        options: How they are read.
        faults: Where faults are told.
    """

    def __init__(
        self, task_id: str, form: InstanceFormat, options: PoolOptions, faults: Faults
    ) -> None:
        self._task_id = task_id
        self._form = form
        self._columns = options.columns
        self._faults = faults
        self._bad = False
        self._first: Row | None = None
        self._definition = ""
        self._category: str | None = None
        self._instances: dict[str, Instance] = {}

    def add(self, row: Row, position: int) -> None:
        """Add the row that is number `position`, from 0, of the task's rows."""
        check = Checker(self._faults, row.file, row.place)
        parts = self._form.parse(row, self._columns, check)
        category = row_category(row.values, self._columns, check)
        has_id = (self._columns.id or "id") in row.values
        named = row_id(row, self._columns, check) if has_id else f"{self._task_id}-{position}"
        if not check.bad:
            if self._first is None:
                self._first, self._definition, self._category = row, parts.definition, category
            self._compare(parts, category, check)
            if named in self._instances:
                check.fault(f"{named!r} is also the id of another row of its task", "id")
        if check.bad:
            self._bad = True
        else:
            self._instances[named] = Instance(id=named, input=parts.input, outputs=parts.outputs)

    def _compare(self, parts: RowParts, category: str | None, check: Checker) -> None:
        assert self._first is not None
        if not parts.definition:
            check.fault("rows grouped into tasks need one; name its column", "definition")
        elif parts.definition != self._definition:
            check.fault(f"differs from that of {self._first.place}, same task", "definition")
        if category != self._category:
            check.fault(f"differs from that of {self._first.place}, same task", "category")

    def build(self) -> Located | None:
        """The task; none if a row was at fault."""
        if self._bad or self._first is None:
            return None
        task = Task(
            id=self._task_id,
            definition=self._definition,
            instances=tuple(self._instances.values()),
            category=self._category,
        )
        return Located(task, self._first.file, self._first.place)


def single_tasks(
    read: RowReader, form: InstanceFormat, options: PoolOptions, faults: Faults
) -> Iterator[Located]:
    """Each row as a task of its own. A prompt without a definition is the definition."""
    columns = options.columns
    for row in read(faults):
        check = Checker(faults, row.file, row.place)
        parts = form.parse(row, columns, check)
        task_id = row_id(row, columns, check)
        category = row_category(row.values, columns, check)
        if check.bad:
            continue
        definition, text = parts.definition, parts.input
        if not definition:
            definition, text = text, ""
        instance = Instance(id=f"{task_id}-0", input=text, outputs=parts.outputs)
        task = Task(id=task_id, definition=definition, instances=(instance,), category=category)
        yield Located(task, row.file, row.place)
