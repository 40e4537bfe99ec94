"""What `benchmarks.gpu_stages.precision_reference` answers."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel


class Tokens(BaseModel):
    """What a model says of each output token, one row per pair.

    Attributes:
        logprobs: Natural log-probabilities.
        ranks: How many tokens of the vocabulary are at least as likely; the likeliest has 1.
    """

    logprobs: list[list[float]]
    ranks: list[list[int]]


class Load(BaseModel):
    """A checkpoint and what becomes of an honest load of it.

    Attributes:
        name: What it is.
        accepted: Whether the files hold what the manifest says.
    """

    name: str
    accepted: bool
    folder: Path
    version: str


class Reference(BaseModel):
    """The child's answer."""

    float32: Tokens
    bfloat16: Tokens
    loads: list[Load]
