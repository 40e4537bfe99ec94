"""Tasks made of rows that hold one instance each."""

from __future__ import annotations

from collections.abc import Iterator

from engine.pools.checks import Checker, Faults
from engine.pools.formats import InstanceFormat
from engine.pools.instances import RowParts, row_id
from engine.pools.options import PoolOptions
from engine.pools.own_form import row_category
from engine.pools.rows import Located, Row, RowReader
from engine.pools.unused import Watched, tell_unused
from engine.tasks import Instance, Task


class TaskBuilder:
    """Makes one task of its rows.

    Args:
        column: The column by which the rows are grouped.
    """

    def __init__(
        self,
        task_id: str,
        form: InstanceFormat,
        options: PoolOptions,
        faults: Faults,
        column: str,
    ) -> None:
        self._task_id = task_id
        self._column = column
        self._form = form
        self._columns = options.columns
        self._faults = faults
        self._first: Row | None = None
        self._definition = ""
        self._category: str | None = None
        self._instances: dict[str, Instance] = {}

    def add(self, row: Row, position: int) -> None:
        """Add the row that is number `position`, from 0, of the task's rows."""
        check = Checker(self._faults, row.file, row.place)
        row = row._replace(values=(values := Watched(row.values)))
        parts = self._form.parse(row, self._columns, check)
        category = row_category(row.values, self._columns, check)
        has_id = (self._columns.id or "id") in values
        named = row_id(row, self._columns, check) if has_id else f"{self._task_id}-{position}"
        tell_unused(values, check, (self._column,))
        if not check.bad:
            if self._first is None:
                self._first, self._definition, self._category = row, parts.definition, category
            self._compare(parts, category, check)
            if named in self._instances:
                check.fault(f"{named!r} is also the id of another row of its task", "id")
        if not check.bad:
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
        """The task, of the rows that are not at fault; none if there is none."""
        if self._first is None or not self._instances:
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
        row = row._replace(values=(values := Watched(row.values)))
        parts = form.parse(row, columns, check)
        task_id = row_id(row, columns, check)
        category = row_category(row.values, columns, check)
        tell_unused(values, check)
        if check.bad:
            continue
        definition, text = parts.definition, parts.input
        if not definition:
            definition, text = text, ""
        instance = Instance(id=f"{task_id}-0", input=text, outputs=parts.outputs)
        task = Task(id=task_id, definition=definition, instances=(instance,), category=category)
        yield Located(task, row.file, row.place)
