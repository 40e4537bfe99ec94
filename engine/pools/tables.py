"""Rows of Parquet files, and of data sets through `datasets`; read in slices of bounded size."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.pools.checks import Faults
from engine.pools.rows import Row
from engine.weights.models import ask_hub

_SLICE_BYTES = 16 << 20  # on disk; several times as much in memory
_SLICE_ROWS = 20_000
_DATASET_ROWS = 1_000
_CONVERTED_ROWS = 500  # of a slice, at once
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

HUB = "hub:"
"""What the name of a data set on the hub begins with."""


def read_parquet(file: Path, faults: Faults) -> Iterator[Row]:
    """Rows of a Parquet file, through a lazy scan that never holds more than a slice.

    A slice within a row group decodes that row group, so memory is bounded by the larger of the
    two. (`LazyFrame.collect_batches` took two and a half times the memory of slices.)
    """
    import polars as pl

    try:
        frame = pl.scan_parquet(file, glob=False)
        height = int(frame.select(pl.len()).collect().item())
        per_slice = max(1, min(_SLICE_ROWS, height * _SLICE_BYTES // max(1, file.stat().st_size)))
        for offset in range(0, height, per_slice):
            part = frame.slice(offset, per_slice).collect()
            for start in range(0, len(part), _CONVERTED_ROWS):
                some = part.slice(start, _CONVERTED_ROWS)
                yield from _rows(some, _frame_values, str(file), offset + start, faults)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0]
        faults.add(InputError(f"cannot be read as Parquet: {reason}", file=file))


def _rows(
    table: Any,
    convert: Callable[[Any], list[dict[str, Any]]],
    name: str,
    offset: int,
    faults: Faults,
) -> Iterator[Row]:
    """The rows of a polars or a pyarrow table, those left out that Python has no values for."""
    import polars as pl

    try:
        rows = convert(table)
    except (ValueError, OverflowError, pl.exceptions.PanicException) as error:
        if len(table) > 1:
            for each in range(len(table)):
                yield from _rows(table.slice(each, 1), convert, name, offset + each, faults)
            return
        problem = f"cannot be read, a time out of range? ({error})"
        faults.add(InputError(problem, file=name, record=f"row {offset + 1}"))
        return
    for number, values in enumerate(rows, start=offset + 1):
        yield Row(name, f"row {number}", number, values)


def _frame_values(frame: Any) -> list[dict[str, Any]]:
    return list(frame.rows(named=True))


def _arrow_values(table: Any) -> list[dict[str, Any]]:
    return list(table.to_pylist())


def is_dataset_folder(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def open_dataset(spec: str, split: str | None, subset: str | None) -> Any:
    """A `datasets.Dataset`, memory-mapped.

    Args:
        spec: A folder written by `save_to_disk`, or `hub:` and the name of a data set on the hub.
        split: Its split; may be none if there is only one.
        subset: Its configuration on the hub.

    Raises:
        InputError: If it cannot be loaded, or needs a split to be named.
    """
    if spec.startswith(HUB) and not _HUB_NAME.fullmatch(spec.removeprefix(HUB)):
        raise InputError("names no data set; its form is hub:OWNER/NAME", file=spec)
    import datasets  # type: ignore[import-untyped]
    from huggingface_hub import constants

    if spec.startswith(HUB) and ask_hub(spec.removeprefix(HUB), "datasets") == "unreachable":
        # What was loaded before is in the cache. To find out that the rest cannot be had, the
        # libraries take half a minute, unless they know.
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        if spec.startswith(HUB):
            found = datasets.load_dataset(spec.removeprefix(HUB), subset)
        else:
            found = datasets.load_from_disk(spec)
    except (
        *(OSError, ValueError, RuntimeError),  # for names, files, networks, and scripts to run
        datasets.exceptions.DatasetsError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot be loaded as a data set: {reason}", file=spec) from error
    if not isinstance(found, datasets.DatasetDict):
        if split is not None:
            raise InputError("this data set has no splits", file=spec, field="split")
        return found
    names = ", ".join(sorted(found))
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split is None:
        raise InputError(f"name a split: {names}", file=spec, field="split")
    if split not in found:
        raise InputError(f"no split {split!r}; there are: {names}", file=spec, field="split")
    return found[split]


def read_dataset(dataset: Any, name: str, faults: Faults) -> Iterator[Row]:
    """Rows of a `datasets.Dataset`; images and other media as they are stored."""
    features = dataset.features.copy()
    for column, feature in list(features.items()):
        _store_media(feature)
        features[column] = feature  # what has to be decoded is found out anew
    tables = dataset.with_format("arrow")
    stored = dataset.data
    per_row = max(1, stored.nbytes // max(1, stored.num_rows))
    per_slice = max(1, min(_DATASET_ROWS, _SLICE_BYTES // per_row))
    for offset in range(0, len(tables), per_slice):
        part = tables[offset : offset + per_slice]
        for row in _rows(part, _arrow_values, name, offset, faults):
            yield row._replace(values=features.decode_example(row.values))


def _store_media(feature: Any) -> None:
    """Have nothing in a feature decoded but JSON."""
    if isinstance(feature, dict):
        for part in feature.values():
            _store_media(part)
    elif hasattr(feature, "feature"):
        _store_media(feature.feature)
    elif hasattr(feature, "decode") and type(feature).__name__ != "Json":
        feature.decode = False
