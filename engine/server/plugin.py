"""The endpoint plugin: adds the scoring and weights routes to a stock vLLM server."""

from __future__ import annotations

import asyncio
import logging
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State
from vllm.engine.protocol import EngineClient
from vllm.tasks import SupportedTask

from engine.errors import InputError
from engine.keys import check_exposure, read_keys
from engine.process.engine_process import ADAPTER_VARIABLE, WEIGHTS_ROOT_VARIABLE
from engine.process.settings import check_logprobs_mode
from engine.protocol.limits import read_limits
from engine.protocol.served_model import ServedModel, template_identity, tokenizer_identity
from engine.protocol.weights_state import WeightsState
from engine.server.http.attach import attach
from engine.server.keep_running import pulse
from engine.server.reload.live_record import SHARED_FOLDER_VARIABLE
from engine.server.reload.live_weights import LiveWeights
from engine.server.vllm.rounding import engine_dtype, engine_precision
from engine.server.vllm.selftest import enable_extensions
from engine.weights.identity import weights_identity
from engine.weights.live_file import LIVE_FILE_VARIABLE, read_last_good
from engine.weights.manifest import MANIFEST_NAME, Manifest, read_manifest
from engine.weights.models import local_folder
from engine.weights.publishing import unverified_version

logger = logging.getLogger("vllm.jostle")

_LAST_WORDS_SECONDS = 1.0
"""Between the answer that says that the engine must end and its end."""

watching: list[pulse.Pulse] = []
"""Who watches the engine, for the exit code of this process."""


class JostlePlugin:
    """Entry point `vllm.endpoint_plugins`; loaded when `VLLM_PLUGINS` names `jostle`."""

    name = "jostle"
    # vLLM would leave the plugin out of a server that lacks them, and with it the access control.
    required_tasks: tuple[SupportedTask, ...] | None = None

    def attach_router(self, app: FastAPI) -> None:
        """Adds the routes, and what every request passes before any route.

        Raises:
            InputError: If the server would be open to a network, or its limits make no sense.
        """
        args: Namespace = app.state.args
        keys = read_keys(os.environ, args.api_key or ())
        check_exposure("localhost" if args.uds else args.host, keys, os.environ)
        attach(app, keys, read_limits(os.environ))

    async def init_state(
        self, engine_client: EngineClient | None, state: State, args: Namespace
    ) -> None:
        """Finds out which weights are live, and begins to watch the engine.

        Raises:
            InputError: If the engine generates no text, gives logits, takes no request or computes
                not all rows, or an adapter does not belong to the weights.
            EngineError: If the weights carry a manifest and do not give its log-probabilities.
        """
        if engine_client is None or "generate" not in await engine_client.get_supported_tasks():
            raise InputError("generates no text, so nothing can be scored", file=args.model)
        _check_flags(engine_client.vllm_config)
        limits = read_limits(os.environ)
        # With several API processes it is their parent that started the engine, and ends all.
        processes = pulse.engine_processes(engine_client) or [pulse.WholeServer()]
        root, named = os.environ.get(WEIGHTS_ROOT_VARIABLE), os.environ.get(LIVE_FILE_VARIABLE)
        live_file = Path(named) if named else None
        weights, manifest = await asyncio.to_thread(_loaded, engine_client, live_file)
        watch: Any = None

        def condemn() -> None:
            asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, watch.kill)

        several, shared = (args.api_server_count or 1) > 1, os.environ.get(SHARED_FOLDER_VARIABLE)
        if several and not shared:
            # A gate in each of several processes would hold back none of the others' requests.
            logger.warning("weights can be loaded by several API processes under jostle serve only")
            root = None
        live = LiveWeights(
            engine_client,
            Path(root) if root else None,
            weights,
            limits,
            live_file=live_file,
            shared=Path(shared) if several and shared else None,
            condemn=condemn,
        )
        watch = pulse.Pulse(
            engine_client.is_sleeping,
            processes,
            limits.hang_seconds,
            lambda: live.loading,
            dead=lambda: engine_client.errored,
        )
        watching[:] = [watch]
        adapter = os.environ.get(ADAPTER_VARIABLE)
        async with live.gate.alone():
            live.extensions = await enable_extensions(engine_client)
            await live.start(manifest, Path(adapter) if adapter else None)
        state.jostle_weights, state.jostle_limits, state.jostle_pulse = live, limits, watch
        state.jostle_watching = asyncio.create_task(watch.run())


def _check_flags(config: Any) -> None:
    check_logprobs_mode(config.model_config.logprobs_mode)
    for name in ("max_num_queued_reqs", "max_num_queued_tokens"):
        if getattr(config.scheduler_config, name) == 0:
            raise InputError("0 refuses every request", field=f"--{name.replace('_', '-')}")
    if (
        config.model_config.architecture == "DeepseekV41ForCausalLM"
        and config.use_v2_model_runner
        and config.cache_config.swa_bounded_replay
    ):
        problem = "the last layers leave out rows of long outputs; pass --no-swa-bounded-replay"
        raise InputError(problem, field="--swa-bounded-replay")


def _loaded(client: EngineClient, live_file: Path | None) -> tuple[WeightsState, Manifest | None]:
    """The weights of the engine, and their manifest."""
    config = client.vllm_config.model_config
    model = local_folder(str(config.model), config.revision)
    manifest = read_manifest(model) if (model / MANIFEST_NAME).is_file() else None
    served = _served(client, model)
    unverified = _unverified(model, live_file) if live_file and not manifest else None
    weights = WeightsState(
        version=manifest.version if manifest else unverified or served.version,
        path=str(model),
        verified="probes" if manifest else "files" if unverified else None,
        served=served,
    )
    return weights, manifest


def _unverified(folder: Path, live_file: Path) -> str | None:
    """The version of weights that were loaded by their files alone, in a server that goes on."""
    last = read_last_good(live_file)
    if last is None or last.path != str(folder):
        return None
    version = unverified_version(folder)
    return version if version == last.version else None


def _served(client: EngineClient, folder: Path) -> ServedModel:
    """What the server was started with; `folder` holds its weights, if they are files here."""
    config = client.vllm_config.model_config
    tokenizer = client.renderer.get_tokenizer()
    name = config.model if config.revision is None else f"{config.model}@{config.revision}"
    dtype, cache = engine_dtype(client.vllm_config), client.vllm_config.cache_config
    tf32 = engine_precision(client.vllm_config) == "tf32"
    numbers = [dtype, "tf32" if tf32 else None, config.quantization]
    if cache.cache_dtype not in ("auto", dtype):
        numbers.append(f"{cache.cache_dtype} cache")
    return ServedModel(
        model=config.model,
        tokenizer_model=config.tokenizer,
        weights=weights_identity(folder) or f"unread {name}",
        tokenizer=tokenizer_identity(tokenizer),
        chat_template=template_identity(tokenizer),
        max_model_len=config.max_model_len,
        dtype=", ".join(filter(None, numbers)),
    )
