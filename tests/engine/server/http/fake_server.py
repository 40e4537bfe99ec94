"""Our part of the server as vLLM puts it together, on an engine in memory."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from vllm.config.load import LoadConfig
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

from engine.errors import EngineError
from engine.keys import Keys
from engine.protocol.limits import Limits
from engine.questions.backend import Scored
from engine.server.http.attach import attach
from engine.server.keep_running.pulse import Pulse
from engine.server.reload.live_weights import LiveWeights
from engine.server.vllm.worker import LOAD_METHOD
from tests.engine.questions.fake_backend import FakeBackend
from tests.engine.weights import made_manifests
from tests.engine.weights.served import live


@dataclass
class FakeEngine:
    """Holds the path of the weights; what it answers follows from it.

    Attributes:
        loaded: The path loaded last; None: half loaded.
        events: What happened to it, in order.
        fails: Paths whose load fails half way.
        ignores: Paths whose load changes nothing and says that it has.
        hold: A load waits for it.
        sleeps: Whether it was started with `--enable-sleep-mode`.
        connector_keeps: Whether what lies outside the device cannot be given up.
        load_format: How vLLM was told to load weights.
        moves_experts: Whether it was started with `--enable-eplb`.
        drafts: Method of its `--speculative-config`; None: it was started without.
        kept: Names of its `--sleep-preserve-parameter-names`.
        encoders_reset: How often the scheduler was told that no image is encoded any more.
    """

    loaded: str | None = "base"
    events: list[str] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)
    ignores: set[str] = field(default_factory=set)
    hold: asyncio.Event | None = None
    dtype: str = "torch.float32"
    device: str = "cpu"
    errored: bool = False
    sleeps: bool = False
    encoders_reset: int = 0
    connector_keeps: bool = False
    load_format: str = "auto"
    moves_experts: bool = False
    drafts: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def vllm_config(self) -> Any:
        model = SimpleNamespace(
            dtype=self.dtype,
            served_model_name="tiny",
            get_vocab_size=lambda: 50_000,
            enable_sleep_mode=self.sleeps,
            sleep_preserve_parameter_names=self.kept,
        )
        drafts = SimpleNamespace(method=self.drafts) if self.drafts else None
        return SimpleNamespace(
            model_config=model,
            device_config=SimpleNamespace(device_type=self.device),
            load_config=LoadConfig(load_format=self.load_format),
            parallel_config=SimpleNamespace(enable_eplb=self.moves_experts),
            speculative_config=drafts,
        )

    async def collective_rpc(self, method: str, args: tuple[str, ...]) -> None:
        assert method == LOAD_METHOD
        path = args[-1]  # of an adapter, where there is one
        self.events.append("load " + " with ".join(Path(each).name for each in args))
        if self.hold:
            await self.hold.wait()
        if path in self.fails:
            self.loaded = None
            raise RuntimeError("the shapes differ")
        if path not in self.ignores:
            self.loaded = path

    async def sleep(self, level: int) -> None:
        assert level == 2
        self.events.append("sleep")
        self.loaded = None

    async def wake_up(self) -> None:
        self.events.append("wake up")

    async def reset_encoder_cache(self) -> None:
        self.encoders_reset += 1

    async def reset_prefix_cache(self, *, reset_connector: bool) -> bool:
        if reset_connector and self.connector_keeps:
            return False
        self.events.append("reset" if reset_connector else "reset without the connector")
        return True


@dataclass
class WeightedBackend(FakeBackend):
    """Log-probabilities that depend on the weights: those of `base`, times `factor`.

    Attributes:
        noise: What rounding adds to the first token of each pair under any weights but `base`.
        behind: Replicas that keep the weights of the start.
    """

    engine: FakeEngine = field(default_factory=FakeEngine)
    n_replicas: int = 1
    noise: float = 0.0
    behind: tuple[int, ...] = ()

    async def score(
        self, prompt: tuple[int, ...], output: tuple[int, ...], name: str, group: int, **more: Any
    ) -> Scored:
        if name.startswith("probe"):
            self.engine.events.append(" ".join(name.split()[2:]))
        loaded = self.engine.loaded
        if loaded is None:
            raise EngineError("the model is on the meta device")
        scored = await super().score(prompt, output, name, group, **more)
        if group in self.behind:
            loaded = "base"
        first, *others = (value * made_manifests.factor(loaded) for value in scored.token_logprobs)
        values = (first - self.noise * (loaded != "base"), *others)
        return replace(scored, token_logprobs=values)


class FakeLiveWeights(LiveWeights):
    """On a backend in memory.

    Attributes:
        salts: Those of the backends that were made.
    """

    def __init__(
        self,
        engine: FakeEngine,
        root: Path | None,
        limits: Limits,
        *,
        start: Path = Path("base"),
        version: str = "base",
        **more: Any,
    ) -> None:
        self.fake = WeightedBackend(engine=engine)
        self.salts: list[str] = []
        super().__init__(engine, root, live(version, str(start)), limits, **more)  # type: ignore[arg-type]

    def pretend(self, **changes: Any) -> None:
        """Changes what is known of the live weights."""
        self._note(**changes)

    def _backend(self, salt: str) -> Any:
        self.salts.append(salt)
        return self.fake


async def _alive() -> bool:
    return True


def make_app(
    live: LiveWeights,
    limits: Limits | None = None,
    keys: Keys | None = None,
    *,
    templates: bool = False,
) -> FastAPI:
    """As vLLM, `JostlePlugin.attach_router` and `init_state` do it."""
    limits = limits or Limits()
    app = FastAPI()
    app.state.args = Namespace(log_error_stack=False, trust_request_chat_template=templates)
    attach(app, keys or Keys(), limits)

    @app.post("/v1/completions")
    async def completions(body: dict[str, Any]) -> dict[str, Any]:
        return {"version": live.state.version}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {}

    init_exception_handler(app)
    app.state.jostle_weights, app.state.jostle_limits = live, limits
    app.state.jostle_pulse = Pulse(_alive, [], 3600.0, lambda: False)
    return app
