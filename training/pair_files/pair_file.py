"""Files whose rows hold pairs, gone through as often as it takes and never held in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import InputError
from engine.pools.checks import Faults, IgnoredFaults
from engine.pools.opening import READERS, existing_path, part_files
from engine.pools.rows import Row, RowReader
from engine.pools.tables import HUB, is_dataset_folder, open_dataset, read_dataset
from training.pair_files.kept_columns import KeptColumns
from training.pair_files.pair_columns import PairColumns, PairForm, RowPair

_LOOKED_AT = 100  # rows that show the form
_OF_PAIR = re.compile(r"^.*?pairs\[\d+\](, field '[^']*')?: ")
"""How a message about a pair of a request begins."""


class _Source(NamedTuple):
    """One file: how its rows are read, what its columns are, and its `pyarrow.Schema` if any."""

    name: str
    read: RowReader
    schema: Any = None
    form: PairForm = PairForm(None, None, None)


class PairRow(NamedTuple):
    """A row and its pairs.

    Attributes:
        row: The row.
        source: Its file.
        first: Number of its first pair, counted from 0 through all files.
        pairs: Its pairs, at least one.
    """

    row: Row
    source: _Source
    first: int
    pairs: list[RowPair]

    def fault(self, number: int, reason: str, field: str | None) -> InputError:
        """Why one of its pairs cannot be scored.

        Args:
            number: The pair's.
            reason: As the engine puts it.
            field: Field of the pair at fault, if it is one.
        """
        form = self.source.form
        column = {
            "prompt": form.prompt,
            "messages": form.messages,
            "completion": form.completion or form.messages,
        }.get(field or "", field)
        if column == form.completion and form.several:
            column = f"{column}[{number - self.first}]"
        problem = _OF_PAIR.sub("", reason)
        return InputError(problem, file=self.row.file, record=self.row.place, field=column)


@dataclass(frozen=True)
class Survey:
    """What is known of the files once they have been gone through.

    Attributes:
        n_rows: Rows without fault.
        n_pairs: Their pairs.
        digest: sha256 over all rows.
        kept: The columns of the files.
        several: Whether rows have lists of completions.
    """

    n_rows: int
    n_pairs: int
    digest: str
    kept: KeptColumns
    several: bool


class PairFiles:
    """The rows of one file or several.

    Args:
        specs: Files, folders of parts, or `hub:` and a data set on the hub.
        columns: What the columns are called.
        split: The split of a data set.
        subset: Its configuration.

    Attributes:
        files: Names of what is read.

    Raises:
        InputError: If there is no such file, it is of an unknown kind, or a column is missing.
    """

    def __init__(
        self,
        specs: Sequence[str],
        columns: PairColumns,
        split: str | None = None,
        subset: str | None = None,
    ) -> None:
        self.files: list[str] = []
        self._sources: list[_Source] = []
        for spec in specs:
            for source in _sources(spec, split, subset):
                first = list(islice(source.read(IgnoredFaults()), _LOOKED_AT))
                if not first:  # raises what is wrong with it, if it is not empty
                    next(source.read(Faults()), None)
                    continue
                self.files.append(source.name)
                form = PairForm.find(columns, first, source.name)
                self._sources.append(source._replace(form=form))
        if not self._sources:
            raise InputError("holds no rows", file=", ".join(specs))
        forms = {source.form.several for source in self._sources}
        if len(forms) > 1:
            raise InputError("some hold lists of completions, some do not", file=", ".join(specs))
        self.several = forms.pop()

    @property
    def rounded(self) -> tuple[str, ...]:
        """The columns that hold nanoseconds: rows have microseconds of them."""
        parquet = [each for each in self._sources if each.name.lower().endswith(".parquet")]
        columns = (column for each in parquet for column in each.schema or ())
        return tuple(dict.fromkeys(each.name for each in columns if "[ns" in str(each.type)))

    def rows(self, faults: Faults) -> Iterator[PairRow]:
        """All rows without fault, in order; the faults of the others are told."""
        n_pairs = 0
        for source in self._sources:
            for row in source.read(faults):
                try:
                    pairs = source.form.pairs(row)
                except InputError as fault:
                    faults.add(fault)
                else:
                    yield PairRow(row, source, n_pairs, pairs)
                    n_pairs += len(pairs)

    def rows_again(self, survey: Survey, faults: Faults) -> Iterator[PairRow]:
        """The rows that were surveyed, once more.

        Raises:
            InputError: Where there are more pairs, or at the end, if the rows have changed.
        """
        digest = hashlib.sha256()
        for row in self.rows(faults):
            if row.first + len(row.pairs) > survey.n_pairs:
                raise self._changed(row.row.file)
            digest.update(repr(row.row).encode())
            yield row
        if digest.hexdigest() != survey.digest:
            raise self._changed(", ".join(self.files))

    def row_of(self, number: int) -> PairRow:
        """The row of a pair.

        Raises:
            InputError: If there is no such pair any more.
        """
        for row in self.rows(IgnoredFaults()):
            if row.first <= number < row.first + len(row.pairs):
                return row
        raise self._changed(", ".join(self.files))

    def _changed(self, file: str) -> InputError:
        return InputError("changed while it was read; --overwrite scores it anew", file=file)

    def survey(self, faults: Faults, *, typed: bool) -> Survey:
        """Goes through all rows once, so that what is wrong with one is told before it costs much.

        Raises:
            InputError: The first fault, unless `faults` takes it; if no row is without one.

        Args:
            typed: Whether the types of the columns are needed.
        """
        digest = hashlib.sha256()
        kept = KeptColumns(typed=typed)
        n_rows = n_pairs = 0
        for each in self.rows(faults):
            digest.update(repr(each.row).encode())
            n_rows += 1
            n_pairs += len(each.pairs)
            kept.see(each.row, each.source.schema)
        if not n_rows:
            raise InputError("no row can be scored", file=", ".join(self.files))
        return Survey(n_rows, n_pairs, digest.hexdigest(), kept, self.several)


def files_read(specs: Iterable[str]) -> Iterator[Path]:
    """The files on disk that names stand for, for those that must not write there.

    Raises:
        InputError: If there is no such file, or it is of an unknown kind.
    """
    for spec in specs:
        if spec.startswith(HUB):
            continue
        path = existing_path(spec)
        if not (path.is_dir() and is_dataset_folder(path)):
            yield from part_files(path)


def _sources(spec: str, split: str | None, subset: str | None) -> Iterator[_Source]:
    """The files that a name stands for."""
    is_dataset = spec.startswith(HUB)
    if not is_dataset:
        path = existing_path(spec)
        is_dataset = path.is_dir() and is_dataset_folder(path)
    if is_dataset:
        dataset = open_dataset(spec, split, subset)
        schema = dataset.features.arrow_schema
        if any("arrow.json" in str(column.type) for column in schema):
            schema = None  # such a column is read as what it spells
        yield _Source(spec, partial(read_dataset, dataset, spec), schema)
        return
    for field, value in (("split", split), ("subset", subset)):
        if value is not None:
            raise InputError("only data sets have splits and subsets", file=spec, field=field)
    for file in part_files(path):
        ending = file.suffix.lower()
        read: Any = READERS[ending]
        schema = _parquet_schema(file) if ending == ".parquet" else None
        yield _Source(str(file), partial(read, file), schema)


def _parquet_schema(file: Path) -> Any:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot be read as Parquet: {reason}", file=file) from error
