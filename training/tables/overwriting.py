"""Files of commands: nothing is replaced unasked, and only the same work is gone on with."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import InputError
from engine.files import check_output, read_json, write_json
from engine.protocol.weights_state import WeightsState
from engine.tasks import Record
from training.tables.lock import RunLock


class AskedOf(Record):
    """What work on disk depends on.

    Attributes:
        weights: Those of the engine that is asked.
        output: Name of the file that the work ends in; `WorkFiles.begin` puts it in.
    """

    weights: WeightsState
    output: str = ""


class WorkFiles:
    """The files of a command's work, named after its output.

    Args:
        output: The file that is there when the work is done.
        what: What the work is called.
        kind: What the endings of the others begin with.
    """

    def __init__(self, output: Path, what: str, kind: str = "") -> None:
        self._output = output
        self._what = what
        self._kind = kind
        self._overwrite = False
        self.settings = self._beside("settings.json")
        self.journal = self._beside("journal.jsonl")
        self.lock = self._beside("lock")
        self.paraphrases = self._beside("paraphrases.jsonl")
        self.skipped = self._beside("skipped.jsonl")
        self.engine_log = self._beside("engine.log")

    def _beside(self, ending: str) -> Path:
        return self._output.with_suffix(f"{self._kind}.{ending}")

    def written(self) -> tuple[Path, ...]:
        return (self.journal, self.skipped)

    @contextmanager
    def claim(
        self, *, overwrite: bool = False, inputs: Iterable[object] = (), more: bool = False
    ) -> Iterator[None]:
        """Hold them for this process, sure that nothing is lost by writing here.

        Args:
            overwrite: Whether `begin` may remove what is there, unfinished work too. Nothing goes
                before: an input or an engine at fault costs nobody the results that he has.
            inputs: What is read.
            more: Whether finished work goes on, too.

        Raises:
            InputError: If the output is there already, an input would be replaced, the folder is
                missing, or another process is at it, which is named; or if the others are those of
                another output.
        """
        read = list(inputs)
        replaced = overwrite or more
        check_output(self._output, overwrite=replaced, inputs=read)  # before a lock file is made
        with RunLock(self.lock, self._what, self._output):
            check_output(self._output, overwrite=replaced, inputs=read)
            self._check_own()
            others = (self.settings, *self.written())
            for path in others:
                # Without settings, nothing else that is there is unfinished work.
                check_output(path, overwrite=overwrite or self.settings.is_file(), inputs=read)
            self._overwrite = overwrite
            yield

    def begin(self, settings: AskedOf, free: Collection[str] = ()) -> None:
        """Write down what the work depends on; unfinished work that is there must be the same.

        It is removed, and the output with it, where that was claimed.

        Args:
            free: Fields that may differ.

        Raises:
            InputError: If another field differs, or the model, its tokenizer or its context does.
        """
        if self._overwrite:
            for path in (self._output, self.settings, *self.written()):
                path.unlink(missing_ok=True)
        if self.journal.is_file() and self.settings.is_file():
            self._check_same(settings, free)
        settings = settings.model_copy(update={"output": self._output.name})
        write_json(self.settings, settings.model_dump(mode="json"))

    def _check_own(self) -> None:
        """That the other files are not those of an output whose name differs by its ending."""
        try:
            other = json.loads(self.settings.read_bytes()).get("output")
        except (OSError, ValueError, AttributeError):  # `begin` tells, if it matters
            return
        if other in (None, self._output.name) or Path(other).stem != self._output.stem:
            return  # or all of them were renamed
        if self.journal.is_file() or self._output.with_name(other).is_file():
            problem = f"is that of {other}; give {self._output.name} another name, not only ending"
            raise InputError(problem, file=self.settings)

    def _check_same(self, settings: AskedOf, free: Collection[str]) -> None:
        try:
            before = read_json(self.settings, type(settings))
        except InputError as error:
            raise self._other(f"of another form is there ({error.problem})", error.field) from error
        other = before.weights.difference(settings.weights)
        if other or before.weights.version != settings.weights.version:
            both = f"{before.weights.in_words()} and {settings.weights.in_words()}: other weights"
            raise self._other(f"of another model is there, {other or both}", "weights")
        old, new = before.model_dump(mode="json"), settings.model_dump(mode="json")
        for field in old:
            if old[field] != new[field] and field not in ("weights", "output", *free):
                raise self._other(f"with another {field} is there", field)

    def _other(self, problem: str, field: str | None) -> InputError:
        which = "a finished" if self._output.exists() else "an unfinished"
        problem = f"{which} {self._what} {problem}; --overwrite starts anew"
        return InputError(problem, file=self.settings, field=field)
