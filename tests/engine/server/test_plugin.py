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


def refused(mode: str, queued: int | None) -> str:
    config = SimpleNamespace(
        model_config=SimpleNamespace(logprobs_mode=mode),
        scheduler_config=SimpleNamespace(max_num_queued_reqs=None, max_num_queued_tokens=queued),
    )
    engine: Any = SimpleNamespace(vllm_config=config)
    with pytest.raises(InputError) as told:
        asyncio.run(JostlePlugin().init_state(engine, State(), Namespace()))
    return str(told.value)


@pytest.mark.parametrize("mode", ["raw_logits", "processed_logits"])
def test_an_engine_that_gives_logits(mode: str) -> None:
    assert "field '--logprobs-mode': scoring needs log-prob" in refused(mode, None)


def test_an_engine_that_takes_no_request() -> None:
    said = refused("raw_logprobs", 0)
    assert said == "field '--max-num-queued-tokens': 0 refuses every request"
