"""What is measured on one device: servers of ours and peers, started together, asked in turn.

None of them holds anything in this process. A start takes a minute, most of it on the CPU, so
several start at once; while one is measured the others wait and use nothing but memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.common.pairs import BenchmarkPairs
from benchmarks.peers.ways import VLLM_VARIABLE, Answer
from engine.client import EngineClient
from engine.errors import EngineError
from engine.process.engine_process import EngineProcess
from engine.process.last_words import last_words
from engine.process.settings import choose_settings

START_SECONDS = 240.0


class Server:
    """A server of ours.

    Args:
        name: What it is called in the table; its log is called so too.
        folder: Takes its log; checkpoints below it may be loaded.
        flags: Further flags of vLLM.
        environment: Environment variables of it alone.
        eager: Whether the model is not compiled.
    """

    def __init__(
        self,
        name: str,
        model: str,
        folder: Path,
        flags: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        *,
        eager: bool = False,
    ) -> None:
        self.name = name
        self._model = model
        self._folder = folder
        self._flags = flags
        self._environment = environment or {}
        self._eager = eager
        self._process: EngineProcess | None = None
        self._client: EngineClient | None = None
        self.seconds: float | None = None

    def start(self) -> None:
        """Starts it and returns at once."""
        self._started = time.perf_counter()
        with environment(self._environment):
            self._process = EngineProcess.start(
                self._model,
                weights_root=self._folder,
                log_file=self._folder / f"{slug(self.name)}.log",
                long_running=not self._eager,
                extra_args=self._flags,
            )

    def wait(self) -> EngineClient:
        """Its client, once it is ready.

        Raises:
            EngineError: If it does not come up.
        """
        assert self._process is not None
        if self._client is None:
            self._process.wait_ready(START_SECONDS)
            self.seconds = time.perf_counter() - self._started
            self._client = EngineClient(self._process.url)
        return self._client

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        assert self._process is not None
        return self._process.url

    def stop(self) -> None:
        """Ends it; safe to call again."""
        if self._client is not None:
            self._client.close()
        if self._process is not None:
            self._process.stop()


class Peer:
    """A way of `ways`, which loads its model and waits; it has our cores, allocator and KV space.

    Args:
        name: What it is called in the table.
        way: Its name there.
        folder: Takes its pairs, its log and its answer.
        vllm: Further arguments of vLLM's engine.
        environment: Environment variables of it alone.
        module: What is run instead of `benchmarks.peers.ways`.
    """

    def __init__(
        self,
        name: str,
        way: str,
        folder: Path,
        vllm: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        module: str = "benchmarks.peers.ways",
    ) -> None:
        self.name = name
        self._way = way
        self._module = module
        self._file = folder / slug(name)
        self._environment = {
            **choose_settings().environment,
            **os.environ,
            "VLLM_PLUGINS": "",
            VLLM_VARIABLE: json.dumps(vllm or {}),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, pairs: BenchmarkPairs) -> None:
        """Starts it and returns at once; its answer will be about these pairs."""
        given = self._file.with_suffix(".pairs")
        given.write_text(pairs.model_dump_json())
        self._file.with_suffix(".ready").unlink(missing_ok=True)
        command = [sys.executable, "-m", self._module, self._way]
        with self._file.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(given), str(self._file.with_suffix(".json"))],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def measure(self, timeout_s: float = START_SECONDS) -> Answer:
        """Waits until it is ready, and then so long for its answer.

        Raises:
            EngineError: If it fails, or is not ready in time.
        """
        assert self._process is not None
        ends = time.monotonic() + START_SECONDS
        while not self._file.with_suffix(".ready").exists():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise EngineError(f"{self.name}: {self._said()}")
            time.sleep(0.2)
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.close()
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.name}: no answer") from error
        if code != 0:
            raise EngineError(f"{self.name}: {self._said()}")
        return Answer.model_validate_json(self._file.with_suffix(".json").read_bytes())

    def stop(self) -> None:
        """Ends it and what it has started; safe to call again."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()

    def _said(self) -> str:
        return last_words(self._file.with_suffix(".log").read_text(errors="replace"))


@contextlib.contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with changes, for children that are started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def slug(name: str) -> str:
    """A name as part of a file name."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
