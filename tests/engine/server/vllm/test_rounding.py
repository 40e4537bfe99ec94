"""Good loads pass and others do not, in every precision, on noise as it was measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from engine.process.settings import FLOAT32_VARIABLE
from engine.server.vllm.rounding import Logprobs, engine_precision, rounding

N_PAIRS, N_TOKENS = 8, 12
NOISE = {"float32": 3e-6, "tf32": 2e-3, "float16": 2e-3, "bfloat16": 0.04}


def config(dtype: str, device: str = "cuda") -> SimpleNamespace:
    return SimpleNamespace(
        model_config=SimpleNamespace(dtype=f"torch.{dtype}"),
        device_config=SimpleNamespace(device_type=device),
    )


def pairs(values: np.ndarray) -> Logprobs:
    return [tuple(row) for row in values.reshape(N_PAIRS, N_TOKENS).tolist()]


class Engine:
    """Log-probabilities with heavy-tailed noise (Student's t with 2 degrees of freedom)."""

    def __init__(self, precision: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.truth = -self.rng.exponential(2.0, N_PAIRS * N_TOKENS)
        self.noise = NOISE[precision]

    def look(self, change: float = 0.0, noise: float = 1.0) -> np.ndarray:
        """The values after a change of the weights that moves them by so much on the mean."""
        tails = self.rng.standard_t(2, self.truth.size) / np.sqrt(2)
        moved = np.random.default_rng(7).exponential(change, self.truth.size)
        return np.asarray(self.truth + moved + noise * self.noise * tails)


@pytest.mark.parametrize("precision", list(NOISE))
@pytest.mark.parametrize("change", [0.0, 0.03, 0.3, 3.0])
def test_a_good_load_is_accepted(precision: str, change: float) -> None:
    rule, refused = rounding(precision), 0
    for seed in range(300):
        engine = Engine(precision, seed)
        trainer = engine.look(change, noise=0.3)
        fault = rule.fault(pairs(trainer), pairs(engine.look(change)), pairs(engine.look()))
        refused += fault is not None
    assert refused == 0


@pytest.mark.parametrize(
    ("precision", "change"),
    [
        # Less than right values may differ by: that they are the old ones tells.
        *(("float32", 2e-4), ("tf32", 0.018), ("float16", 0.018), ("bfloat16", 0.15)),
        *(("float32", 5e-4), ("tf32", 0.03), ("float16", 0.03), ("bfloat16", 0.25)),
        ("bfloat16", 2.0),
    ],
)
def test_a_load_that_did_nothing_is_refused(precision: str, change: float) -> None:
    rule = rounding(precision)
    for seed in range(300):
        engine = Engine(precision, seed)
        before = engine.look()
        again = before + engine.look(noise=0.05) - engine.truth
        fault = rule.fault(pairs(engine.look(change, noise=0.3)), pairs(again), pairs(before))
        assert fault is not None, seed


@pytest.mark.parametrize("precision", list(NOISE))
def test_other_weights_are_refused(precision: str) -> None:
    for seed in range(100):
        engine = Engine(precision, seed)
        other = engine.rng.permutation(engine.truth)
        fault = rounding(precision).fault(pairs(engine.look()), pairs(other))
        assert fault is not None
        assert "differ by" in fault


def test_the_worst_token_says_nothing_in_half_precision() -> None:
    """As read on CUDA: 0.72 on one token of a good load; in float32 that is another model."""
    values = Engine("bfloat16", 0).truth
    measured = values.copy()
    measured[5] += 0.72
    assert rounding("bfloat16").fault(pairs(values), pairs(measured)) is None
    assert rounding("float32").fault(pairs(values), pairs(measured)) is not None


def test_few_tokens_are_allowed_more_and_other_weights_still_told() -> None:
    rule = rounding("bfloat16")
    assert rule.fault([(-1.0,)], [(-1.4,)]) is None
    assert rule.fault([(-1.0,)], [(-2.7,)]) is not None


def test_the_coarsest_precision_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FLOAT32_VARIABLE, raising=False)
    assert engine_precision(config("float32", "cpu")) == "float32"
    assert engine_precision(config("float32")) == "tf32"
    assert engine_precision(config("bfloat16")) == "bfloat16"
    monkeypatch.setenv(FLOAT32_VARIABLE, "tf32")
    assert engine_precision(config("float32")) == "tf32"
    monkeypatch.setenv(FLOAT32_VARIABLE, "ieee")
    assert engine_precision(config("float32")) == "float32"
    assert rounding("float32", "tf32").name == "tf32"
    assert rounding("bfloat16", "float32").name == "bfloat16"
    assert rounding("float32", "float8").name == "bfloat16"
