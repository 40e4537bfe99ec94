"""`jostle serve` with its processes killed and stopped under it, one after the other."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from engine.client import EngineClient
from engine.errors import EngineError
from engine.pools.bundled import training_pool
from engine.protocol.api import TaskScore
from engine.protocol.completions import TokenPair
from tests.integration.processes import MARK_VARIABLE, children, marked, wait_until_gone
from tests.integration.reference import Reference, published_adapter, published_change
from tests.integration.test_scoring_exact import CONFIG

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(1200)]

TASKS = list(training_pool()[:12])


@dataclass
class Served:
    """A running `jostle serve`."""

    watcher: subprocess.Popen[bytes]
    url: str
    log: Path
    mark: str = field(default="")

    @property
    def server(self) -> int:
        return children(self.mark, self.watcher.pid)[0]

    @property
    def engine(self) -> int:
        return children(self.mark, self.server)[0]

    def wait_ready(self) -> float:
        started = time.monotonic()
        while True:
            assert self.watcher.poll() is None, self.log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/ready", timeout=60).status_code == 200:
                    return time.monotonic() - started
            except httpx.TransportError:
                pass
            time.sleep(0.2)


@contextmanager
def serving(model: Path, root: Path, log: Path, *flags: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "cli.main", "serve", str(model), f"--port={port}"]
    command += [f"--weights-root={root}", "--tries=9", "--", "--enforce-eager", *flags]
    environment = {**os.environ, MARK_VARIABLE: mark}
    with log.open("wb") as output:
        watcher = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield Served(watcher, f"http://127.0.0.1:{port}", log, mark)
    finally:
        watcher.terminate()
        watcher.wait()
        wait_until_gone(mark, marked(mark))


def values(scores: list[TaskScore]) -> list[list[float]]:
    return [[pair.logprob for pair in score.pairs] for score in scores]


def equal(one: list[TaskScore], other: list[TaskScore]) -> bool:
    assert {score.weights_version for score in one} == {score.weights_version for score in other}
    return all(
        a == pytest.approx(b, abs=1e-4) for a, b in zip(values(one), values(other), strict=True)
    )


def test_whatever_dies_or_hangs(
    model_folder: Path, base: Reference, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("supervised")
    checkpoint, manifest, _ = published_change(base, root, 31, names=["layers.3."])
    other, other_manifest, _ = published_change(base, root, 32, names=["layers.4."])
    with (
        serving(model_folder, root, root / "serve.log") as served,
        EngineClient(served.url) as client,
    ):
        print(f"first start: {served.wait_ready():.1f} s")
        client.load_weights(checkpoint, manifest.version)
        expected = list(client.score(TASKS, CONFIG))
        assert {score.weights_version for score in expected} == {manifest.version}

        killed_during_a_stream(served, client, expected)
        hanging(served, client, expected)
        killed_during_a_load(served, client, expected, other, other_manifest.version)
        killed_server(served, client, expected)

        everything = set(marked(served.mark))
        os.kill(served.watcher.pid, signal.SIGKILL)
        served.watcher.wait()
        gone = wait_until_gone(served.mark, everything)
        print(f"after SIGKILL of the watcher nothing was left within {gone:.1f} s")


def killed_during_a_stream(served: Served, client: EngineClient, expected: list[TaskScore]) -> None:
    engine = served.engine
    scores: list[TaskScore] = []
    started = 0.0
    for score in client.score(TASKS, CONFIG):
        if not scores:
            os.kill(engine, signal.SIGKILL)
            started = time.monotonic()
        scores.append(score)
    print(f"kill -9 of the engine in a stream: all there {time.monotonic() - started:.1f} s later")
    assert served.engine != engine, "it died in the middle"
    assert [score.task_id for score in scores] == [task.id for task in TASKS]
    assert equal(scores, expected)


def hanging(served: Served, client: EngineClient, expected: list[TaskScore]) -> None:
    engine = served.engine
    answers: list[tuple[int, float]] = []
    pair = TokenPair(prompt_token_ids=tuple(range(5, 900)), completion_token_ids=(7,) * 50)
    body = {"pairs": [pair.model_dump()] * 64}

    def ask() -> None:
        path = f"{served.url}/v1/completion_logprobs"
        answer = httpx.post(path, json=body, timeout=600)
        answers.append((answer.status_code, time.monotonic()))

    os.kill(engine, signal.SIGSTOP)
    stopped = time.monotonic()
    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    (status, when) = answers[0]
    print(f"SIGSTOP of the engine: {status} after {when - stopped:.1f} s")
    assert status == 503
    print(f"ready again {served.wait_ready() + when - stopped:.1f} s after it")
    assert equal(list(client.score(TASKS, CONFIG)), expected)


def killed_during_a_load(
    served: Served, client: EngineClient, expected: list[TaskScore], other: Path, version: str
) -> None:
    engine = served.engine
    errors: list[str] = []

    def load() -> None:
        with EngineClient(served.url, patience_s=0) as mine, pytest.raises(EngineError) as caught:
            mine.load_weights(other, version)
        errors.append(str(caught.value))

    loading = threading.Thread(target=load)
    loading.start()
    while httpx.get(f"{served.url}/ready", timeout=600).status_code == 200:
        time.sleep(0.005)
    time.sleep(0.2)  # the probes under the old weights come first
    os.kill(engine, signal.SIGKILL)
    loading.join()
    print(f"kill -9 in the middle of a load: {errors[0]}")
    assert "the engine died while it loaded" in errors[0]
    wait_until_gone(served.mark, [engine])
    print(f"ready again after {served.wait_ready():.1f} s")
    assert client.weights().version == expected[0].weights_version
    assert equal(list(client.score(TASKS, CONFIG)), expected)


def killed_server(served: Served, client: EngineClient, expected: list[TaskScore]) -> None:
    server, engine = served.server, served.engine
    os.kill(server, signal.SIGKILL)
    gone = wait_until_gone(served.mark, [server, engine])
    print(f"kill -9 of the API server: its engine was gone {gone:.1f} s later")
    assert equal(list(client.score(TASKS, CONFIG)), expected)


def started_last(log: Path, kind: str) -> int:
    """Process id of an API process or of the engine, as vLLM puts it before every line."""
    return int(re.findall(rf"\({kind} pid=(\d+)\)", log.read_text())[-1])


def test_several_api_processes_and_an_adapter(
    model_folder: Path, base: Reference, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whichever process ends or hangs, all are started again, with the adapter that was live."""
    root = tmp_path_factory.mktemp("supervised")
    adapter, manifest, _ = published_adapter(base, root, 33)
    other, other_manifest, _ = published_change(base, root, 34, names=["layers.4."])
    tasks = TASKS[:3]
    with (
        serving(model_folder, root, root / "serve.log", "--api-server-count=2") as served,
        EngineClient(served.url) as client,
    ):
        print(f"first start: {served.wait_ready():.1f} s")
        client.load_weights(adapter, manifest.version)
        expected = list(client.score(tasks, CONFIG))
        assert {score.weights_version for score in expected} == {manifest.version}

        def again(what: str, killed: int) -> None:
            gone = wait_until_gone(served.mark, [killed])
            time.sleep(0.5)
            print(f"{what}: gone {gone:.1f} s, ready again {served.wait_ready():.1f} s later")
            with EngineClient(served.url) as anew:
                assert equal(list(anew.score(tasks, CONFIG)), expected)

        def load() -> None:
            with EngineClient(served.url, patience_s=0) as mine, pytest.raises(EngineError):
                mine.load_weights(other, other_manifest.version)

        loading = threading.Thread(target=load)
        loading.start()
        while httpx.get(f"{served.url}/ready", timeout=600).status_code == 200:
            time.sleep(0.005)
        server, engine = served.server, started_last(served.log, "EngineCore")
        os.kill(started_last(served.log, "ApiServer_0"), signal.SIGKILL)
        loading.join()
        again("kill -9 of an API process during a load", server)
        assert engine not in marked(served.mark)

        server, engine = served.server, started_last(served.log, "EngineCore")
        os.kill(engine, signal.SIGSTOP)
        again("SIGSTOP of the engine", engine)
        assert server not in marked(served.mark)

        everything = set(marked(served.mark)) - {served.watcher.pid}
        os.kill(served.server, signal.SIGKILL)
        gone = wait_until_gone(served.mark, everything)
        print(f"kill -9 of the API processes' parent: all others were gone {gone:.1f} s later")
        again("kill -9 of the parent", next(iter(everything)))

        everything = set(marked(served.mark))
        os.kill(served.watcher.pid, signal.SIGKILL)
        served.watcher.wait()
        gone = wait_until_gone(served.mark, everything)
        print(f"after SIGKILL of the watcher nothing was left within {gone:.1f} s")
