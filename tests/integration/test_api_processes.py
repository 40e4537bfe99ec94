"""Several API server processes before one engine: weights change for all of them at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.client import EngineClient
from engine.errors import EngineError
from engine.process.engine_process import EngineProcess
from tests.integration.reference import Reference, published_adapter, published_change
from tests.integration.test_reload import damage

pytestmark = pytest.mark.integration

TEXTS = [
    ("The capital of France is", " Paris"),
    ("Translate to German: good morning", " guten Morgen"),
    ("Roses are red, violets are", " blue and so are you"),
]
N_CLIENTS = 6
N_LOADS = 8


@pytest.fixture(scope="module")
def server(
    model_folder: Path, weights_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EngineProcess, Path]]:
    """A server with two API processes, and its log."""
    log_file = tmp_path_factory.mktemp("engine") / "engine.log"
    with EngineProcess.start(
        str(model_folder),
        weights_root=weights_root,
        log_file=log_file,
        extra_args=["--api-server-count=2", "--max-model-len=1024"],
    ) as process:
        process.wait_ready(300)
        yield process, log_file


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
                json={"pairs": [self._pairs[index]] * 3},
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


def test_no_answer_of_any_process_mixes_weights(
    server: tuple[EngineProcess, Path], base: Reference, weights_root: Path
) -> None:
    engine, log_file = server
    first, first_manifest, one = published_change(base, weights_root, 41, names=["layers.5."])
    second, second_manifest, other = published_adapter(base, weights_root, 42)
    published = [(first, first_manifest.version), (second, second_manifest.version)]
    pairs = [
        {
            "prompt_token_ids": base.tokenizer(prompt)["input_ids"],
            "completion_token_ids": base.tokenizer(output)["input_ids"],
        }
        for prompt, output in TEXTS
    ]
    with EngineClient(engine.url) as client:
        base_version = client.weights().version
    truth = {
        version: [
            model.token_logprobs(pair["prompt_token_ids"], pair["completion_token_ids"])
            for pair in pairs
        ]
        for version, model in (
            (base_version, base),
            (first_manifest.version, one),
            (second_manifest.version, other),
        )
    }
    stop = threading.Event()
    askers = [Asker(engine.url, pairs, stop) for _ in range(N_CLIENTS)]
    for asker in askers:
        asker.start()
    seconds = []
    for load in range(N_LOADS):
        time.sleep(1.0)
        with EngineClient(engine.url) as client:  # its connection goes to either process
            seconds.append(client.load_weights(*published[load % 2]).seconds or 0.0)
    time.sleep(1.0)
    stop.set()
    for asker in askers:
        asker.join(120)

    assert [fault for asker in askers for fault in asker.faults] == []
    answers = [answer for asker in askers for answer in asker.answers]
    worst = max(
        abs(a - b)
        for index, version, values in answers
        for a, b in zip(truth[version][index], values, strict=True)
    )
    print(f"{Counter(version for _, version, _ in answers)}, largest difference {worst:.2e}")
    print(f"loads took {min(seconds):.2f} to {max(seconds):.2f} s")
    assert {version for _, version, _ in answers} == set(truth)
    assert worst < 1e-4
    log = log_file.read_text()
    for name in ("ApiServer_0", "ApiServer_1"):
        served = [line for line in log.splitlines() if name in line and "completion_logp" in line]
        print(f"{name} served {len(served)} requests")
        assert len(served) > 10
    every_process_says(engine.url, published[(N_LOADS - 1) % 2][1])


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
            assert len(live) == 3
    for client in clients:
        client.close()


def test_what_one_process_could_not_load_is_known_to_all(
    server: tuple[EngineProcess, Path], base: Reference, weights_root: Path
) -> None:
    engine, _ = server
    bad, manifest, _ = published_change(base, weights_root, 43, names=["layers.9."])
    damage(bad, "other values")
    with EngineClient(engine.url) as client:
        before = client.weights().version
        with pytest.raises(EngineError, match=f"{before} is live again"):
            client.load_weights(bad, manifest.version)
    every_process_says(engine.url, before)
