"""The wire format of `/v1/weights` and `/ready`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.protocol.served_model import ServedModel
from engine.tasks import Record

WeightsKind = Literal["full", "lora"]
"""All weights of a model, or a low-rank adapter that is merged into the base model's."""


Verification = Literal["probes", "files"]
"""By the log-probabilities that the trainer computed, or by what files and engine tell alone."""


class WeightsState(Record):
    """Answer of every method of `/v1/weights`.

    Attributes:
        version: The live weights version.
        path: The folder or hub id they were loaded from.
        kind: `full`, or `lora` for an adapter that was merged into `base`.
        base: Folder of the weights that the adapter was merged into; null for whole weights.
        verified: How they were: `probes`, or `files` where no trainer vouches for them; null for
            weights of the start that carry no manifest.
        seconds: How long the last load took, checks and verification included; null before one.
        served: What the server was started with. A load changes the weights, and nothing else of
            it.
    """

    version: str
    path: str
    kind: WeightsKind = "full"
    base: str | None = None
    verified: Verification | None = None
    seconds: float | None = None
    served: ServedModel

    @property
    def is_base(self) -> bool:
        """Whether these are the weights of the start, and they carry no manifest."""
        return self.version == self.served.version

    @property
    def is_start(self) -> bool:
        """Whether these are the weights of the start, with a manifest or without."""
        at_start = self.base is None and self.path == str(Path(self.served.model))
        return self.is_base or at_start

    def difference(self, other: WeightsState) -> str | None:
        """Why a load of weights alone cannot turn one into the other; None if it can.

        Returns:
            Both by name and version, and what differs.
        """
        found = self.served.differences(other.served)
        if not found and self.is_base and other.is_base and self.version != other.version:
            found = ["other weights"]
        if not found:
            return None
        return f"{self.in_words()} and {other.in_words()}: {', '.join(found)}"

    def in_words(self) -> str:
        """Where they are from, and the version."""
        return f"{self.path} ({self.version})"


class LoadWeightsRequest(Record):
    """Body of `POST /v1/weights`: load a published checkpoint, or again what it was started with.

    Attributes:
        path: Folder of the checkpoint, readable by the server; `served.model` to go back.
        version: The version its manifest names; guards against loading the wrong folder. To go
            back, the one that was live at the start (`base-` and 12 digits).
        kind: `full` for all weights of a model; `lora` for a peft adapter, which is merged into the
            base model's weights while they are loaded. Null: what the manifest says. A kind that
            differs from the manifest's is refused.
        verify: `files` loads all weights of a model from a folder without a manifest. Headers,
            shapes, config and finiteness are checked as ever; random pairs, asked one by one and
            together, have to agree, and to differ from before. No trainer vouches for them, and
            their version says so: `unverified-` and 12 digits of their digest. `version` may be
            null then.
    """

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    version: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    kind: WeightsKind | None = None
    verify: Verification = "probes"

    @model_validator(mode="after")
    def _published_weights_have_a_version(self) -> LoadWeightsRequest:
        if self.version is None and self.verify == "probes":
            raise PydanticCustomError("version", "version: is missing; the manifest names it")
        return self

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "path": "/runs/demo/rounds/01/checkpoint",
        "version": "round-01-0123456789ab",
    }


class Readiness(Record):
    """Answer of `GET /ready`.

    Attributes:
        ready: Always true; a server that is not ready answers 503.
        weights_version: The weights it is ready to score with.
    """

    ready: Literal[True] = True
    weights_version: str
