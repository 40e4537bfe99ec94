"""The output: the rows of the input, in order, with log-probabilities beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.files import replacing
from engine.pools.writing import parquet_groups
from training.pair_files.kept_columns import fits_none, json_line, unfit
from training.pair_files.pair_file import PairRow, Survey
from training.pair_files.scored_pairs import PairResult, TokenValues

RESULT_COLUMNS = ("logprob", "mean_logprob", "n_tokens", "n_prompt_tokens", "is_greedy")
"""What each row gets."""

TOKEN_COLUMNS = tuple(TokenValues.model_fields)
"""What it gets on top where values of tokens were asked for."""

Write = Callable[[dict[str, Any]], None]
"""Takes a row of the output."""


class ResultFile:
    """Writes the output.

    Args:
        path: A `.parquet` or a `.jsonl` file.
        survey: The columns of the input.
        tokens: Whether there are values of tokens.

    Raises:
        InputError: If the input has a column of the same name as one of the output's own, or its
            columns fit no Parquet file.
    """

    def __init__(self, path: Path, survey: Survey, *, tokens: bool) -> None:
        self._path = path
        self._files = survey.kept.names
        self._several = survey.several
        self.columns = (*RESULT_COLUMNS, *(TOKEN_COLUMNS if tokens else ()))
        for name in self.columns:
            if name in self._files:
                problem = "has the name of a column of the output; rename it"
                raise InputError(problem, file=self._files[name], field=name)
        self._schema: Any = None
        if path.suffix == ".parquet":
            self._schema = self._with_results(survey.kept.schema())

    def row(self, row: PairRow, results: Sequence[PairResult]) -> dict[str, Any]:
        """A row of the output."""
        rows = [self._values(result) for result in results]
        values = {name: [each[name] for each in rows] for name in self.columns}
        return row.row.values | (values if self._several else rows[0])

    def _values(self, result: PairResult) -> dict[str, Any]:
        values = result._asdict() | {"mean_logprob": result.logprob / result.n_tokens}
        if result.tokens is not None:
            values |= {name: each and list(each) for name, each in result.tokens}
        return {name: values[name] for name in self.columns}

    def opened(self) -> AbstractContextManager[Write]:
        """What takes the rows; the file is there when the block is through."""
        return self._parquet() if self._schema is not None else self._jsonl()

    @contextmanager
    def _jsonl(self) -> Iterator[Write]:
        def write(row: dict[str, Any]) -> None:
            stream.write(json_line(row, self._path))

        with replacing(self._path) as part, part.open("w", encoding="utf-8") as stream:
            yield write

    @contextmanager
    def _parquet(self) -> Iterator[Write]:
        def write(row: dict[str, Any]) -> None:
            put(row, sum(len(value) for value in row.values() if isinstance(value, str | list)))

        with replacing(self._path) as part, parquet_groups(part, self._schema, self._table) as put:
            yield write

    def _table(self, rows: list[dict[str, Any]]) -> Any:
        """Rows as a `pyarrow.Table`; `InputError` naming the column that does not fit."""
        import pyarrow as pa  # type: ignore[import-untyped]

        columns = []
        for field in self._schema:
            try:
                columns.append(pa.array([row.get(field.name) for row in rows], field.type))
            except unfit() as error:
                raise fits_none(error, self._files.get(field.name), field.name) from error
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _with_results(self, kept: Any) -> Any:
        """The schema of the output; it can be written."""
        import pyarrow as pa
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        number, count, flag = pa.float64(), pa.int64(), pa.bool_()
        types = {
            "logprob": number,
            "mean_logprob": number,
            "n_tokens": count,
            "n_prompt_tokens": count,
            "is_greedy": flag,
            "token_ids": pa.list_(count),
            "token_texts": pa.list_(pa.string()),
            "token_logprobs": pa.list_(number),
            "token_is_greedy": pa.list_(flag),
        }
        for column in kept:
            try:
                pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([column])).close()
            except unfit() as error:
                raise fits_none(error, self._files.get(column.name), column.name) from error
        for name in self.columns:
            kind = pa.list_(types[name]) if self._several else types[name]
            kept = kept.append(pa.field(name, kind))
        return kept
