"""From the journal to the output: a last pass over the files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from engine.errors import InputError
from engine.files import replacing
from engine.pools.checks import Faults, ToldFaults
from engine.pools.writing import left_out_line
from training.pair_files.corpus_perplexity import Perplexities
from training.pair_files.pair_file import PairFiles, PairRow, Survey
from training.pair_files.result_file import ResultFile
from training.pair_files.scored_pairs import PairFault, PairJournal, PairResult


class WrittenRows(NamedTuple):
    """How many rows were written, and how many left out."""

    rows: int
    left_out: int


def write_results(
    pairs: PairFiles,
    survey: Survey,
    journal: PairJournal,
    output: ResultFile,
    skipped: Path,
    perplexities: Perplexities,
    *,
    skip_faulty: bool,
) -> WrittenRows:
    """Writes all rows with their results, and down what was left out and why.

    Args:
        skipped: A JSON object a line for each fault; no file where there is none.
        perplexities: Takes all completions.
        skip_faulty: Whether faulty rows are left out; otherwise they are errors.

    Raises:
        InputError: If the files cannot be written, hold faults that are not left out, or changed
            after the survey.
    """
    results = journal.in_order()
    n_rows = n_left_out = 0
    last: tuple[str | None, str | None] | None = None
    with (
        output.opened() as write,
        replacing(skipped) as part,
        part.open("w", encoding="utf-8") as stream,
    ):

        def tell(fault: InputError) -> None:
            nonlocal n_left_out, last
            n_left_out += (fault.file, fault.record) != last
            last = fault.file, fault.record
            stream.write(left_out_line(fault))

        faults = ToldFaults(tell) if skip_faulty else Faults()
        for row in pairs.rows_again(survey, faults):
            good = _good(row, results, faults)
            if good is not None:
                write(output.row(row, good))
                perplexities.add(row.row.file, row.row.values, good)
                n_rows += 1
    if not faults.count:
        skipped.unlink()
    return WrittenRows(n_rows, n_left_out)


def _good(
    row: PairRow, results: Iterator[PairResult | PairFault], faults: Faults
) -> list[PairResult] | None:
    """The results of a row; None if a pair has none, which is told."""
    good = []
    for number, result in enumerate(islice(results, len(row.pairs)), start=row.first):
        if isinstance(result, PairFault):
            faults.add(row.fault(number, result.reason, result.field))
        else:
            good.append(result)
    return good if len(good) == len(row.pairs) else None
