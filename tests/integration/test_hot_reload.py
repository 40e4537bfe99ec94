"""The example of a trainer that a real engine follows."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import TokenPair
from engine.weights.probing import probe_logprobs
from training.callback import HotReload

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "hot_reload.py"


def test_the_engine_follows_the_trainer_of_the_example(
    server: EngineProcess,
    client: EngineClient,
    weights_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each of three loads 30 pairs are what the model in the trainer's memory gives."""
    rng = random.Random(5)
    pairs = [
        TokenPair(
            prompt_token_ids=[rng.randrange(1000, 9000) for _ in range(12)],
            completion_token_ids=[rng.randrange(1000, 9000) for _ in range(1 + index % 3)],
        )
        for index in range(30)
    ]
    rows = [{"prompt": f"Say {word}:", "completion": f" {word}"} for word in ("blue", "red")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy, seen = HotReload._copy, []

    def copy_and_compare(self: HotReload, args: Any, state: Any, **more: Any) -> None:
        copy(self, args, state, **more)
        self.wait()
        answer = client.completion_logprobs(pairs, tokens=True)
        seen.append(answer.weights_version)
        expected = probe_logprobs(more["model"], pairs)
        for probe, found in zip(expected, answer.results, strict=True):
            assert list(found.token_logprobs or ()) == pytest.approx(probe.token_logprobs, abs=1e-4)

    monkeypatch.setattr(HotReload, "_copy", copy_and_compare)
    output = weights_root / "sft"
    monkeypatch.setattr(
        sys, "argv", [str(EXAMPLE), str(tmp_path / "pairs.jsonl"), str(output), server.url]
    )
    runpy.run_path(str(EXAMPLE))
    assert [version.rpartition("-")[0] for version in seen] == [
        "step-000001",
        "step-000002",
        "step-000003",
    ]
    assert [path.name for path in (output / "hot-reload").iterdir()] == seen[-1:]
