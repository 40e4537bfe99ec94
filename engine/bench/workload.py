"""What an engine is measured with: the same workload is the same work on any machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol.score_config import ScoreConfig
from engine.tasks import Record

WorkloadName = Literal["logprobs", "uncertainty", "samples", "mixed", "reload"]
"""Log-probabilities of given pairs; prompt uncertainty of tasks, references generated; the same
with samples under every prompt; requests of all three kinds by turns; pairs while weights change.
"""


class Shape(Record):
    """Tasks made up.

    Attributes:
        prompt_tokens: Tokens of a prompt, definition and two examples included.
        output_tokens: Tokens of a gold output; of a generated one at most.
    """

    prompt_tokens: Annotated[int, Field(ge=32)] = 365
    output_tokens: Annotated[int, Field(ge=1, le=4_096)] = 12


class Workload(Record):
    """What is asked. Two measurements can be compared if theirs are equal.

    Attributes:
        name: The kind of requests.
        tasks: Where the tasks are from: a pool, or `synthetic`.
        shape: Of synthetic ones.
        n_tasks: How many there are; requests go through them again when they are used up, with
            nothing in the engine's cache.
        digest: sha256 over them, in their order.
        tokenizer: Digest of what makes tokens of them.
        config: The design, its seed, and how prompts are laid out, perturbed and sampled.
        per_request: Pairs of a request of pairs, tasks of any other.
        reload_every: Seconds between two loads of weights, from the end of one to the beginning of
            the next; none where there are none.
    """

    name: WorkloadName
    tasks: str
    shape: Shape | None = None
    n_tasks: int
    digest: str
    tokenizer: str
    config: ScoreConfig
    per_request: int = 1
    reload_every: float | None = None

    def differences(self, other: Workload) -> list[str]:
        """In what two differ, in words."""
        mine, theirs = (each.model_dump(mode="json") for each in (self, other))
        for each in (mine, theirs):
            each |= each.pop("config")
        return [
            name if isinstance(mine[name], dict) else f"{name} {mine[name]} and {theirs[name]}"
            for name in mine
            if mine[name] != theirs[name]
        ]


class Load(Record):
    """How hard an engine is pressed: by one of the two.

    Attributes:
        concurrency: Requests in flight at once; when one is answered, the next is sent.
        rate: Requests a second, sent whether others are answered or not, at random times (a Poisson
            process).
    """

    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} at once" if self.rate is None else f"{self.rate:g} a second"


class Timing(Record):
    """How long each load is measured, and how often.

    Attributes:
        seconds: Length of a measurement, at least: it goes on until as many requests of it are
            answered as there are in flight at once.
        pairs: Measure so many pairs instead, from an engine at rest to an engine at rest.
        warm_up: Seconds of the same load before each measurement, likewise; before the first of
            those that follow each other.
        repeats: Measurements of each load, by turns with the others.
    """

    seconds: Annotated[float, Field(gt=0)] = 10.0
    pairs: Annotated[int, Field(ge=1)] | None = None
    warm_up: Annotated[float, Field(ge=0)] = 2.0
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
