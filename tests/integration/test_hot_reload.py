"""The example of a trainer that a real engine follows."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.client import EngineClient
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import TokenPair
from engine.weights.probing import probe_logprobs
from tests.integration.test_supervision import serving
from training.callback import HotReload

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "hot_reload.py"

_RNG = random.Random(5)
PAIRS = [
    TokenPair(
        prompt_token_ids=[_RNG.randrange(1000, 9000) for _ in range(12)],
        completion_token_ids=[_RNG.randrange(1000, 9000) for _ in range(1 + index % 3)],
    )
    for index in range(30)
]


def test_the_engine_follows_the_trainer_of_the_example(
    server: EngineProcess,
    client: EngineClient,
    weights_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each of three loads 30 pairs are what the model in the trainer's memory gives."""
    seen: list[str] = []

    def look(follow: HotReload, model: Any) -> None:
        follow.wait()
        seen.append(compare(client, model))

    output = weights_root / "sft"
    train(server.url, output, tmp_path, monkeypatch, look)
    assert [version.rpartition("-")[0] for version in seen] == [
        "step-000001",
        "step-000002",
        "step-000003",
    ]
    assert [path.name for path in (output / "_hot-reload").glob("*/*")] == seen[-1:]


@pytest.mark.long
def test_an_engine_that_is_killed_in_between_is_found_again(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after the first load, is started again, and has the last weights in the end."""
    epochs: list[Any] = []
    with (
        serving(model_folder, tmp_path, tmp_path / "serve.log") as served,
        EngineClient(served.url, patience_s=300) as client,
    ):
        served.wait_ready()

        def kill_once(follow: HotReload, model: Any) -> None:
            follow.wait()
            if not epochs:
                compare(client, model)
                os.kill(served.engine, signal.SIGKILL)
            epochs.append(model)

        train(served.url, tmp_path / "sft", tmp_path, monkeypatch, kill_once)
        assert len(epochs) == 3
        assert compare(client, epochs[-1]).startswith("step-000003-")


def train(
    url: str,
    output: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_copy: Callable[[HotReload, Any], None],
) -> None:
    """Runs the example; after each copy of the weights a test has its turn, with the live model."""
    rows = [{"prompt": f"Say {word}:", "completion": f" {word}"} for word in ("blue", "red")]
    given = folder / "pairs.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy = HotReload._copy

    def copy_and_more(self: HotReload, args: Any, state: Any, **more: Any) -> None:
        copy(self, args, state, **more)
        after_copy(self, more["model"])

    monkeypatch.setattr(HotReload, "_copy", copy_and_more)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(given), str(output), url])
    runpy.run_path(str(EXAMPLE))


def compare(client: EngineClient, model: Any) -> str:
    """The version of an engine whose answers are those of the model."""
    answer = client.completion_logprobs(PAIRS, tokens=True)
    expected = probe_logprobs(model, PAIRS)
    for probe, found in zip(expected, answer.results, strict=True):
        assert list(found.token_logprobs or ()) == pytest.approx(probe.token_logprobs, abs=1e-4)
    return answer.weights_version
