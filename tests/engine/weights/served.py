"""What engines of tests say that they serve."""

from __future__ import annotations

from engine.protocol.served_model import ServedModel
from engine.protocol.weights_state import WeightsState

SERVED = ServedModel(
    model="some/model",
    tokenizer_model="some/model",
    weights="1" * 64,
    tokenizer="2" * 64,
    chat_template=None,
    max_model_len=2048,
    dtype="float32",
)


def live(version: str, path: str = "somewhere") -> WeightsState:
    """The live weights of an engine that was started with `SERVED`."""
    return WeightsState(version=version, path=path, served=SERVED)
