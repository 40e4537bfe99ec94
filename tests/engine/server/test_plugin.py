"""What the plugin refuses before it asks the engine anything."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import State

from engine.errors import InputError
from engine.server.plugin import JostlePlugin


@pytest.mark.parametrize("mode", ["raw_logits", "processed_logits"])
def test_an_engine_that_gives_logits(mode: str) -> None:
    config = SimpleNamespace(model_config=SimpleNamespace(logprobs_mode=mode))
    engine: Any = SimpleNamespace(vllm_config=config)
    with pytest.raises(InputError, match="field '--logprobs-mode': scoring needs log-prob"):
        asyncio.run(JostlePlugin().init_state(engine, State(), Namespace()))
