"""Files of commands: nothing is replaced unasked, and only the same work is gone on with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import InputError
from engine.files import check_output
from engine.protocol.api import WeightsState
from engine.tasks import Record
from training.tables.lock import RunLock
from training.tables.record_files import read_json


@contextmanager
def claimed(
    output: Path,
    settings: Path,
    beside: Iterable[Path],
    *,
    lock: Path,
    what: str,
    overwrite: bool,
    inputs: Iterable[object] = (),
) -> Iterator[None]:
    """Holds an output and what lies beside it for this process, once there is room for it.

    Raises:
        InputError: As `make_room`, or if another process is at it, which is named.
    """
    read = list(inputs)
    check_output(output, overwrite=overwrite, inputs=read)  # before a lock file is made
    with RunLock(lock, what, output):
        make_room(output, settings, beside, overwrite=overwrite, inputs=read)
        yield


def make_room(
    output: Path,
    settings: Path,
    beside: Iterable[Path],
    *,
    overwrite: bool,
    inputs: Iterable[object] = (),
) -> None:
    """Make sure that nothing is lost by writing a file and what goes beside it.

    Args:
        output: The file that is there when the work is done.
        settings: What is written first; without it, nothing else that is there is unfinished work.
        beside: What else the work writes, its journal included.
        overwrite: Remove all of it, unfinished work too.
        inputs: What is read.

    Raises:
        InputError: See `engine.files.check_output`.
    """
    read = list(inputs)
    check_output(output, overwrite=overwrite, inputs=read)
    others = (settings, *beside)
    for path in others:
        check_output(path, overwrite=overwrite or settings.is_file(), inputs=read)
    if overwrite:
        for path in (output, *others):
            path.unlink(missing_ok=True)


class AskedOf(Record):
    """What work on disk depends on.

    Attributes:
        weights: Those of the engine that is asked.
    """

    weights: WeightsState


def check_same(
    settings: AskedOf, file: Path, journal: Path, what: str, free: Collection[str] = ()
) -> None:
    """That unfinished work, if there is any, is the same, and of the same model.

    Args:
        settings: What the work depends on now.
        file: Where that was written down.
        journal: How far the work had come.
        what: What it is called.
        free: Fields that may differ.

    Raises:
        InputError: If another field differs, or the model, its tokenizer or its context does.
    """
    if not (journal.is_file() and file.is_file()):
        return
    try:
        before = read_json(file, type(settings))
    except InputError as error:
        problem = f"an unfinished {what} of another form is there ({error.problem})"
        raise InputError(f"{problem}; --overwrite starts anew", file=file, field=error.field) from (
            error
        )
    other = before.weights.difference(settings.weights)
    if other or before.weights.version != settings.weights.version:
        both = f"{before.weights.in_words()} and {settings.weights.in_words()}: other weights"
        problem = f"an unfinished {what} of another model is there, {other or both}"
        raise InputError(f"{problem}; --overwrite starts anew", file=file, field="weights")
    old, new = before.model_dump(mode="json"), settings.model_dump(mode="json")
    for field in old:
        if old[field] != new[field] and field not in ("weights", *free):
            problem = f"an unfinished {what} with another {field} is there; --overwrite starts anew"
            raise InputError(problem, file=file, field=field)
