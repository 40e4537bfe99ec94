"""Servers that weights are loaded into: `jostle serve`, and stock vLLM in two ways."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from engine.client import EngineClient
from engine.errors import EngineError
from engine.process.settings import choose_settings
from engine.weights.manifest import read_manifest
from training.run.live_engine import go_back

PROMPTS = [[1000 + 7 * n + 13 * i for i in range(90)] for n in range(4)]
N_TOKENS = 24
START_SECONDS = 300.0

Logprobs = list[float]


def said(load: Callable[[], httpx.Response]) -> str:
    """What a load answers, in a line."""
    try:
        answer = load()
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__})"
    if answer.is_success:
        return "no: 200"
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = answer.text
    reason = message.replace("\n", " ")
    return f"{answer.status_code}: {reason}"


class Server:
    """A server of one kind in a process of its own.

    Args:
        model: Folder.
        root: Folder of checkpoints and logs.
    """

    name = ""
    health = "/health"
    stock = True

    def __init__(self, model: Path, root: Path) -> None:
        self.model, self.root, self.asked = model, root, ""
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def command(self, port: int) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def load(self, checkpoint: Path) -> httpx.Response:
        """Asks it to load a published checkpoint."""
        raise NotImplementedError

    def load_adapter(self, adapter: Path) -> httpx.Response:
        """Asks it to load an adapter of peft, published for those that want that."""
        raise NotImplementedError

    def start(self, *flags: str) -> None:
        """Starts it anew, with further flags of vLLM, and waits until it answers."""
        self.stop()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = choose_settings(["--enforce-eager"], long_running=False)
        stock = {  # jostle refuses the first
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_PLUGINS": "",
        }
        with (self.root / f"{type(self).__name__}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command(port), *flags],
                env={**os.environ, **settings.environment, **(stock if self.stock else {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not self.wait_well(START_SECONDS):
            raise EngineError(f"{self.name} did not start")
        models = httpx.get(f"{self.url}/v1/models", timeout=60, trust_env=False).json()
        self.asked = models["data"][0]["id"]

    def wait_well(self, seconds: float) -> bool:
        """Whether it answers within so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if httpx.get(self.url + self.health, timeout=5, trust_env=False).is_success:
                    return True
            except httpx.HTTPError:
                if self._process is None or self._process.poll() is not None:
                    return False
            time.sleep(0.2)
        return False

    def stop(self) -> None:
        """Ends it, with all that it started."""
        if self._process is None:
            return
        family = [*self.children(), self._process.pid]
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def children(self) -> list[int]:
        """Its processes, the engine's last."""
        import psutil  # type: ignore[import-untyped]

        assert self._process is not None
        try:
            found = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in found]

    def go_back(self) -> None:
        """Asks it to load what it began with."""
        said(lambda: self.load(self.model))

    def ask(self, number: int) -> Logprobs | None:
        """Log-probabilities of a greedy completion; None if none came."""
        body = {
            "model": self.asked,
            "prompt": PROMPTS[number],
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "logprobs": 0,
            "ignore_eos": True,
        }
        try:
            answer = self._post("/v1/completions", body, 30).json()
            values = answer["choices"][0]["logprobs"]["token_logprobs"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return None
        return [float(value) for value in values]

    def _post(self, path: str, body: Any = None, seconds: float = 60) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=seconds, trust_env=False)


class Jostle(Server):
    """`jostle serve`."""

    name = "jostle serve"
    health = "/ready"
    stock = False

    def command(self, port: int) -> list[str]:
        """The command line's."""
        options = [f"--port={port}", f"--weights-root={self.root}", "--", "--enforce-eager"]
        return [sys.executable, "-m", "cli.main", "serve", str(self.model), *options]

    def load(self, checkpoint: Path) -> httpx.Response:
        """`POST /v1/weights`."""
        version = read_manifest(checkpoint).version
        return self._post("/v1/weights", {"path": str(checkpoint), "version": version})

    def load_adapter(self, adapter: Path) -> httpx.Response:
        """The same: adapters are checkpoints like others."""
        return self.load(adapter)

    def go_back(self) -> None:
        """As `jostle reload --base`."""
        with EngineClient(self.url) as client:
            go_back(client)


class Stock(Server):
    """VLLM without plugins, and its load by itself."""

    name = "vLLM, reload_weights"

    def command(self, port: int) -> list[str]:
        """Of vLLM's own server, with the settings that ours has."""
        module = "vllm.entrypoints.openai.api_server"
        flags = ["--dtype=float32", "--block-size=32", "--max-num-seqs=64", "--enforce-eager"]
        return [sys.executable, "-m", module, f"--model={self.model}", f"--port={port}", *flags]

    def load(self, checkpoint: Path) -> httpx.Response:
        """`/collective_rpc`."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}
        return self._post("/collective_rpc", body)

    def load_adapter(self, adapter: Path) -> httpx.Response:
        """`/load_lora_adapter`, in place; it is asked for by its name from then on."""
        self.asked = adapter.name
        body = {"lora_name": adapter.name, "lora_path": str(adapter), "load_inplace": True}
        return self._post("/v1/load_lora_adapter", body)


class Careful(Stock):
    """The same between a pause and a reset of the prefix cache."""

    name = "vLLM, paused and reset"

    def load(self, checkpoint: Path) -> httpx.Response:
        """`/pause`, `/collective_rpc`, `/reset_prefix_cache`, `/resume`."""
        return self._alone(lambda: super(Careful, self).load(checkpoint))

    def load_adapter(self, adapter: Path) -> httpx.Response:
        """`/pause`, `/load_lora_adapter`, `/reset_prefix_cache`, `/resume`."""
        return self._alone(lambda: super(Careful, self).load_adapter(adapter))

    def _alone(self, load: Callable[[], httpx.Response]) -> httpx.Response:
        self._post("/pause?mode=wait")
        try:
            answer = load()
            self._post("/reset_prefix_cache")
        finally:
            self._post("/resume")
        return answer
