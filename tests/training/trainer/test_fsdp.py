"""The shipped FSDP config, really run: two processes on gloo against one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.trainer.test_accelerate_examples import EXAMPLES
from tests.training.trainer.test_trainer_child import make_job, run_job

pytestmark = [pytest.mark.integration, pytest.mark.long]


def test_two_processes_give_the_weights_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = (
        str(Path(sys.executable).with_name("accelerate")),
        *("launch", "--config_file", str(EXAMPLES / "fsdp.yaml")),
        *("--num_processes=2", "--mixed_precision=no", "--no_python"),
    )
    known = os.environ.get("PYTHONPATH", "")
    on_cpu = Path(__file__).parent / "fsdp_on_cpu"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(on_cpu), known])))
    found = []
    for name, rows, words in (("one", 4, ()), ("two", 2, launcher)):
        job = make_job(tmp_path / name, tied=True, epochs=3, batch_size=rows, launcher=words)
        began = time.monotonic()
        result, _ = run_job(job, tmp_path / name)
        print(f"{name}: {time.monotonic() - began:.1f} s, losses {result.losses}")
        found.append((result, load_file(job.output / "model.safetensors")))
    said = (tmp_path / "two" / "log.txt").read_text()
    assert "sharded over 2 processes on the CPU" in said
    (one, expected), (two, weights) = found
    start = load_file(tmp_path / "one" / "base" / "model.safetensors")
    moved = max(float((expected[key] - start[key]).abs().max()) for key in expected)
    apart = max(float((expected[key] - weights[key]).abs().max()) for key in expected)
    print(f"weights moved by up to {moved:.1e}, and are apart by up to {apart:.1e}")
    assert weights.keys() == expected.keys()
    assert apart < 1e-3 * moved
    assert two.steps == one.steps
    assert two.losses == pytest.approx(one.losses, abs=1e-4)
    for probe, other in zip(one.probes, two.probes, strict=True):
        assert other.token_logprobs == pytest.approx(probe.token_logprobs, abs=1e-3)
