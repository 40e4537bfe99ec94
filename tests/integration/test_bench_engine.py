"""`jostle bench` on the real server: both routes agree, and every kind of request is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.bench.bench_result import read_bench
from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from tests.cli.conftest import jostle as jostle  # a fixture

pytestmark = pytest.mark.integration
FEW = ("-n", 2, "-k", 1, "--repeats", 1, "--warm-up", 0, "--concurrency", 1, "--overwrite")


def test_pairs_by_both_routes_and_samples(
    server: EngineProcess, client: EngineClient, jostle: Any, tmp_path: Path
) -> None:
    output = tmp_path / "b.json"
    at = ("--url", server.url, "-o", output, *FEW)
    code, shown = jostle("bench", "logprobs", *at, "--pairs", 8, "--against", "stock")
    assert code == 0, shown
    result = read_bench(output)
    assert result.agreement is not None
    assert result.agreement < 1e-4
    ours, stock = (each.figures for each in result.readings)
    assert ours.errors == stock.errors == 0
    assert 0 < ours.reused < ours.submitted
    assert stock.computed == stock.submitted
    assert sum(result.readings[0].steps.values()) == pytest.approx(1)
    code, shown = jostle("bench", "samples", *at, "--samples", 2, "--pairs", 4)
    assert code == 0, shown
    (samples,) = (each.figures for each in read_bench(output).readings)
    assert samples.errors == 0
    assert samples.samples > samples.pairs > 0
