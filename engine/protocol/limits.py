"""How much one request, and how many requests at once, a scoring server takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from engine.errors import InputError
from engine.tasks import Record, Task
from engine.validation import first_fault

LIMITS_VARIABLE = "JOSTLE_LIMITS"
"""Environment variable: a JSON object with the limits that differ from the defaults."""

_Count = Annotated[int, Field(ge=1)]


class TooLargeError(InputError):
    """A request exceeds a limit; HTTP status 413. The message names limit, value and setting."""


class Limits(Record):
    """Limits of a server, each told in the error of the request that exceeds it.

    Attributes:
        body_bytes: Size of a request's body, of vLLM's own routes too.
        tasks: Tasks of one request.
        instances: Instances of one task.
        pairs: Pairs of one request.
        tokens: Tokens of one request: of all pairs, or of all prompts under all perturbations with
            the longest outputs allowed.
        requests: Scoring requests at once, in each API process; further ones get a 503.
        wait_seconds: How long a request is held back while weights are loaded before it gets a 503,
            and how long the next part of its body may take before it gets a 408.
        drain_seconds: How long a load waits for requests in flight before it is given up. Less than
            `wait_seconds`, so that no slow reader has other requests refused. None: half of it.
        load_seconds: How long the engine may take to load weights before the load counts as failed,
            and a client to take the next part of an answer before that is broken off.
        start_seconds: How long the server may take until it can score, the download of its model
            included, before it is ended.
        hang_seconds: Silence of an idle engine after which it counts as hanging and is ended; one
            that uses the CPU may be silent 15 times as long.
    """

    body_bytes: _Count = 32 * 2**20
    tasks: _Count = 1_024
    instances: _Count = 10_000
    pairs: _Count = 100_000
    tokens: _Count = 50_000_000
    requests: _Count = 128
    wait_seconds: Annotated[float, Field(gt=0)] = 60.0
    drain_seconds: Annotated[float, Field(gt=0)] | None = None
    load_seconds: Annotated[float, Field(gt=0)] = 600.0
    start_seconds: Annotated[float, Field(gt=0)] = 900.0
    hang_seconds: Annotated[float, Field(gt=0)] = 6.0

    @model_validator(mode="after")
    def _loads_give_up_first(self) -> Limits:
        if self.drain >= self.wait_seconds:
            raise PydanticCustomError(
                "drain",
                "drain_seconds must be less than wait_seconds ({wait}): a load that cannot begin "
                "gives up before the requests that wait for it do",
                {"wait": self.wait_seconds},
            )
        return self

    @property
    def drain(self) -> float:
        """Seconds that a load waits for requests in flight."""
        return self.wait_seconds / 2 if self.drain_seconds is None else self.drain_seconds

    def check(
        self, name: str, value: int, *, record: str | None = None, field: str | None = None
    ) -> None:
        """`TooLargeError` if a value exceeds the limit of this name."""
        limit = getattr(self, name)
        if value > limit:
            raise TooLargeError(
                f"{value:,} {name.replace('_', ' ')}, the server's limit is {limit:,} "
                f"(--limit {name}=N)",
                record=record,
                field=field,
            )

    def check_tasks(self, tasks: Sequence[Task]) -> None:
        """`TooLargeError` if there are too many tasks, or a task has too many instances."""
        self.check("tasks", len(tasks), field="tasks")
        for task in tasks:
            self.check("instances", len(task.instances), record=task.id, field="instances")


def read_limits(environ: Mapping[str, str]) -> Limits:
    """The limits that the environment names.

    Raises:
        InputError: If the variable holds no JSON object, an unknown limit or an impossible value.
    """
    given = environ.get(LIMITS_VARIABLE)
    if not given:
        return Limits()
    try:
        return Limits.model_validate_json(given)
    except ValidationError as error:
        raise _refused(error, LIMITS_VARIABLE) from error


def parse_limits(settings: Sequence[str], base: Limits | None = None) -> Limits:
    """The limits of a command line.

    Args:
        settings: Each of the form `name=value`.
        base: What they leave open; None: the defaults.

    Raises:
        InputError: As `read_limits`.
    """
    pairs = [setting.partition("=") for setting in settings]
    given = base.model_dump(exclude_unset=True) if base else {}
    try:
        return Limits.model_validate(
            given | {name.replace("-", "_"): value for name, _, value in pairs}
        )
    except ValidationError as error:
        raise _refused(error, "--limit") from error


def _refused(error: ValidationError, source: str) -> InputError:
    problem, field = first_fault(error)
    return InputError(problem, file=source, field=field)
