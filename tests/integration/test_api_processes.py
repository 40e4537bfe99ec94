"""Several API server processes before one engine: weights change for all of them at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.reloads.reload_faults import damage
from engine.client import EngineClient
from engine.errors import EngineError
from engine.pools.bundled import training_pool
from tests.integration.conftest import Second
from tests.integration.reference import Reference, published_change
from tests.integration.test_scoring_exact import CONFIG, worst_difference

pytestmark = pytest.mark.integration

TEXTS = [
    ("The capital of France is", " Paris"),
    ("Translate to German: good morning", " guten Morgen"),
    ("Roses are red, violets are", " blue and so are you"),
]
N_CLIENTS = 6
N_LOADS = 6


class Asker(threading.Thread):
    """Asks for the log-probability of one pair after another, each on a connection of its own."""

    def __init__(self, url: str, pairs: list[dict[str, Any]], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._pairs, self._stop_asking = url, pairs, stop
        self.answers: list[tuple[int, str, list[float]]] = []
        self.faults: list[str] = []

    def run(self) -> None:
        rng = random.Random(self.name)
        while not self._stop_asking.is_set():
            index = rng.randrange(len(self._pairs))
            response = httpx.post(
                f"{self._url}/v1/completion_logprobs",
                json={"pairs": [self._pairs[index]] * 3, "tokens": True},
                timeout=600,
                trust_env=False,
            )
            if response.status_code != 200:
                self.faults.append(response.text)
                return
            answer = response.json()
            for result in answer["results"]:
                values = result["token_logprobs"]
                self.answers.append((index, answer["weights_version"], values))


def test_it_starts_with_the_adapter_that_was_live(second: Second) -> None:
    tasks = list(training_pool()[:1])
    with EngineClient(second.engine.url) as client:
        state = client.weights()
        assert (state.version, state.kind) == (second.version, "lora")
        scores = list(client.score(tasks, CONFIG))
    worst, _ = worst_difference(tasks, scores, CONFIG, second.merged)
    assert worst < 1e-4
    every_process_says(second.engine.url, second.version)


def test_no_answer_of_any_process_mixes_weights(
    second: Second, base: Reference, weights_root: Path
) -> None:
    url = second.engine.url
    first, manifest, changed = published_change(base, weights_root, 41, names=["layers.5."])
    published = [(first, manifest.version), (second.adapter, second.version)]
    pairs = [
        {
            "prompt_token_ids": base.tokenizer(prompt)["input_ids"],
            "completion_token_ids": base.tokenizer(output)["input_ids"],
        }
        for prompt, output in TEXTS
    ]
    truth = {
        version: [
            model.token_logprobs(pair["prompt_token_ids"], pair["completion_token_ids"])
            for pair in pairs
        ]
        for version, model in ((manifest.version, changed), (second.version, second.merged))
    }
    stop = threading.Event()
    askers = [Asker(url, pairs, stop) for _ in range(N_CLIENTS)]
    for asker in askers:
        asker.start()
    try:
        for load in range(N_LOADS):
            with EngineClient(url) as client:  # its connection goes to either process
                version = client.load_weights(*published[load % 2]).version
            wait_for_answers(askers, version)
        while min(served(second.log).values()) <= 10:
            wait_for_answers(askers, version)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    answers = [answer for asker in askers for answer in asker.answers]
    worst = max(
        abs(a - b)
        for index, version, values in answers
        for a, b in zip(truth[version][index], values, strict=True)
    )
    print(f"{Counter(version for _, version, _ in answers)}, largest difference {worst:.2e}")
    print(f"served: {served(second.log)}")
    assert {version for _, version, _ in answers} == set(truth)
    assert worst < 1e-4
    every_process_says(url, published[(N_LOADS - 1) % 2][1])


def wait_for_answers(askers: list[Asker], version: str) -> None:
    """Until every client has another answer, of these weights."""
    for asker, n_known in [(asker, len(asker.answers)) for asker in askers]:
        while version not in {said for _, said, _ in asker.answers[n_known:]}:
            assert not asker.faults
            time.sleep(0.01)


def served(log: Path) -> dict[str, int]:
    """How many of our requests each API process has answered."""
    lines = [line for line in log.read_text().splitlines() if "completion_logp" in line]
    return {name: sum(name in line for line in lines) for name in ("ApiServer_0", "ApiServer_1")}


def every_process_says(url: str, version: str) -> None:
    """Connections at once go to both processes, and each of them knows what is live."""
    clients = [httpx.Client(base_url=url, trust_env=False, timeout=600) for _ in range(8)]
    for _ in range(2):
        for client in clients:
            assert client.get("/v1/weights").json()["version"] == version
            assert client.get("/ready").json()["weights_version"] == version
            assert client.get("/health").status_code == 200
            lines = client.get("/metrics").text.splitlines()
            live = [line for line in lines if line.startswith("jostle:live_version{")]
            assert [line for line in live if line.endswith(" 1.0")] == [
                f'jostle:live_version{{version="{version}"}} 1.0'
            ]
    for client in clients:
        client.close()


def test_what_one_process_could_not_load_is_known_to_all(
    second: Second, base: Reference, weights_root: Path
) -> None:
    bad, manifest, _ = published_change(base, weights_root, 43, names=["layers.9."])
    damage(bad, "other values", layer=7)
    with EngineClient(second.engine.url) as client:
        before = client.weights().version
        with pytest.raises(EngineError, match=f"{before} is live again"):
            client.load_weights(bad, manifest.version)
    every_process_says(second.engine.url, before)
