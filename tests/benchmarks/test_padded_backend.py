"""Second readings of a model that computes in bfloat16, and of one that does not."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from benchmarks.noise_floor import alike, twice
from benchmarks.peers.padded_backend import PaddedBackend, rounded, to_tf32
from engine.protocol.score_config import ScoreConfig
from engine.variance.rounding_noise import SecondReadings, rounding_noise
from tests.training.fakes import make_task
from tests.training.tiny import make_tiny_model, make_tokenizer

CONFIG = ScoreConfig(n_instances=4, n_perturbations=3, max_output_tokens=4, second_readings=4)


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("float32", 0.0, 1e-6), ("bfloat16", 1e-5, 1e-1)],
)
def test_second_readings_see_rounding_and_nothing_else(
    precision: str, least: float, most: float
) -> None:
    tokenizer = make_tokenizer()
    shape: Any = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
    model = make_tiny_model(tied=False, tokenizer=tokenizer, initializer_range=0.1, **shape)
    model = rounded(model, precision)
    tasks = [make_task(f"t{index}", "say reverse color of word") for index in range(4)]

    async def both() -> Any:
        one, other = (
            PaddedBackend(model, tokenizer, 256, precision, kernel) for kernel in ("sdpa", "eager")
        )
        return await twice(one, other, tasks, CONFIG)

    first, second, _ = alike(asyncio.run(both()))
    noise = rounding_noise([SecondReadings.of(grid) for grid in first])
    predicted = np.mean([each.floor for each in noise if each])
    seen = np.mean([np.abs(a.originals - b.originals) for a, b in zip(first, second, strict=True)])
    assert least <= predicted <= most
    assert least <= seen <= most
    print(f"{precision}: predicted {predicted:.2e}, seen {seen:.2e}")


def test_tf32_keeps_ten_bits() -> None:
    import torch

    values = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11 - 2**-20, -1 - 2**-10 - 2**-12, 0.0])
    assert to_tf32(values).tolist() == [1.0, 1 + 2**-10, 1.0, -1 - 2**-10, 0.0]
