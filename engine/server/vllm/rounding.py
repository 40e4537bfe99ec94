"""How far right log-probabilities lie apart in a precision, and what is wrong where they do not.

Two ways to compute the same pair round at different places. In half precision the worst of a
hundred tokens then says nothing: right ones differ by up to 0.7, wrong ones by as little. Means
over tokens tell them apart (`benchmarks/results/probe_noise.txt`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.process.settings import FLOAT32_VARIABLE

Logprobs = Sequence[tuple[float, ...]]
"""Per pair the natural log-probabilities of its completion's tokens."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What two right computations may differ by, in nats.

    Attributes:
        name: The precision.
        mean: Mean absolute difference over many tokens, at most.
        worst: Difference of any token, at most; infinite where that tells nothing.
        change: Mean absolute change of the expected values from which on old weights can be told
            from new ones.
    """

    name: str
    mean: float
    worst: float
    change: float

    def fault(
        self, expected: Logprobs, measured: Logprobs, before: Logprobs | None = None
    ) -> str | None:
        """What is wrong with the measured log-probabilities; None if nothing is.

        Args:
            expected: What they should be.
            measured: What they are.
            before: What they were, by the same engine, under the weights that were to be replaced.
        """
        wanted, found = _tokens(expected), _tokens(measured)
        off = np.abs(found - wanted)
        if off.max() > self.worst:
            return f"differ by {off.max():.3g}, more than {self.worst:.3g}"
        few = 1 + _FEW / math.sqrt(off.size)  # the mean of few tokens is less steady
        allowed = self.mean * few
        if off.mean() > allowed:
            return f"differ by {off.mean():.3g} a token, more than {allowed:.3g}"
        if before is None:
            return None
        old = _tokens(before)
        change, left = np.abs(wanted - old).mean(), np.abs(found - old).mean()
        if change > self.change * few and left < off.mean() * _NEARER:
            return f"are those of the weights before to {left:.3g}, and {off.mean():.3g} off"
        return None


_FEW = 2.0
_NEARER = 0.25
"""The same pair, alone in the engine, is the same to the last bit under the same weights; any
others move it by as much as rounding does, however near they are."""

_ROUNDINGS = (
    Rounding("float32", mean=2e-3, worst=2e-3, change=1e-4),
    Rounding("tf32", mean=0.02, worst=math.inf, change=0.0125),
    Rounding("float16", mean=0.02, worst=math.inf, change=0.0125),
    Rounding("bfloat16", mean=0.15, worst=math.inf, change=0.1),
)
"""From fine to coarse. TF32 has float16's 10 bits of mantissa, bfloat16 has 7."""


def engine_dtype(config: Any) -> str:
    """The data type of an engine's weights, without torch's prefix; `config` is vLLM's."""
    return str(config.model_config.dtype).removeprefix("torch.")


def engine_precision(config: Any) -> str:
    """The precision that an engine computes in, of those with a rounding; `config` is vLLM's."""
    dtype = engine_dtype(config)
    cuda = config.device_config.device_type == "cuda"
    exact = os.environ.get(FLOAT32_VARIABLE) in ("ieee", "tf32x3")
    return "tf32" if dtype == "float32" and cuda and not exact else dtype


def rounding(*precisions: str) -> Rounding:
    """That of the coarsest of some precisions; bfloat16's for one that is not known."""
    by_name = {each.name: number for number, each in enumerate(_ROUNDINGS)}
    return _ROUNDINGS[max(by_name.get(name, by_name["bfloat16"]) for name in precisions)]


def _tokens(logprobs: Logprobs) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([value for pair in logprobs for value in pair])
