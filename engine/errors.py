"""Errors that are the user's to mend: they say where the fault is and what it is."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input. The message names the file, the record and the field, as far as they are known.

    Args:
        problem: What is wrong, as a phrase a person can act on.
        file: The file or folder the input came from.
        record: The record inside the file (a task id, a line number, an instance id).
        field: The field of the record.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: object | None = None,
        record: object | None = None,
        field: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.record = None if record is None else str(record)
        self.field = field
        where = [
            str(self.file) if self.file else "",
            f"record {self.record}" if self.record else "",
            f"field {self.field!r}" if self.field else "",
        ]
        prefix = ", ".join(part for part in where if part)
        super().__init__(f"{prefix}: {problem}" if prefix else problem)

    def within(self, file: object | None) -> InputError:
        """The same, of this file unless it names one."""
        return InputError(
            self.problem, file=self.file or file, record=self.record, field=self.field
        )


class EngineError(RuntimeError):
    """The scoring engine could not be reached, refused a request or failed at it."""


class UnavailableError(EngineError):
    """The server did not do it and may do it later: a refused connection, a cut stream, a 408,
    429, 502, 503 or 504.

    Attributes:
        retry_after: Seconds the server asked to wait.
        there: Whether it was the server that told: a refused connection and a proxy's own answer do
            not tell that there is one.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, there: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.there = there


class GaveUpError(EngineError):
    """A watched server failed more often than it may."""


EXIT_GAVE_UP = 70
"""Exit code that says so; also that of a server whose engine died, where vLLM's own is 0."""


class TrainingError(RuntimeError):
    """The trainer process failed or left nothing usable behind."""
