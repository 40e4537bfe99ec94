"""The endpoint plugin: adds the scoring and weights routes to a stock vLLM server."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import State
from vllm.engine.protocol import EngineClient
from vllm.tasks import SupportedTask

from engine.manifest import MANIFEST_NAME, read_manifest
from engine.process import WEIGHTS_ROOT_VARIABLE
from engine.server.middleware import GateMiddleware
from engine.server.routes import router
from engine.server.selftest import enable_output_rows
from engine.server.weights import LiveWeights

BASE_VERSION = "base"
"""Version of weights that carry no manifest."""


class JostlePlugin:
    """Entry point `vllm.endpoint_plugins`; loaded when `VLLM_PLUGINS` names `jostle`."""

    name = "jostle"
    required_tasks: tuple[SupportedTask, ...] = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds the routes, and the gate before every route that computes."""
        app.include_router(router)
        app.add_middleware(GateMiddleware)

    async def init_state(
        self, engine_client: EngineClient | None, state: State, args: Namespace
    ) -> None:
        """Finds out which weights are live."""
        assert engine_client is not None, "required_tasks leaves the render server out"
        root = os.environ.get(WEIGHTS_ROOT_VARIABLE)
        model = Path(str(engine_client.vllm_config.model_config.model))
        version = BASE_VERSION
        if (model / MANIFEST_NAME).is_file():
            version = read_manifest(model).version
        live = LiveWeights(engine_client, Path(root) if root else None, version)
        live.output_rows_only = await enable_output_rows(engine_client)
        state.jostle_weights = live
