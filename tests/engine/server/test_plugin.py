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


class Engine:
    """An engine client that is asked what it is, and nothing else."""

    def __init__(self, tasks: tuple[str, ...] = ("generate",), **told: Any) -> None:
        self.tasks = tasks
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(
                logprobs_mode=told.get("mode", "raw_logprobs"),
                architecture="DeepseekV41ForCausalLM",
            ),
            scheduler_config=SimpleNamespace(
                max_num_queued_reqs=None, max_num_queued_tokens=told.get("queued")
            ),
            cache_config=SimpleNamespace(swa_bounded_replay=True),
            use_v2_model_runner=True,
        )

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return self.tasks


def refused(engine: Any) -> str:
    with pytest.raises(InputError) as told:
        asyncio.run(JostlePlugin().init_state(engine, State(), Namespace(model="some/model")))
    return str(told.value)


@pytest.mark.parametrize("engine", [None, Engine(("embed", "token_embed"))])
def test_a_server_that_generates_no_text(engine: Any) -> None:
    """vLLM passes over a plugin that needs what it has not, and would serve without our keys."""
    assert JostlePlugin.required_tasks is None
    assert refused(engine) == "some/model: generates no text, so nothing can be scored"


@pytest.mark.parametrize("mode", ["raw_logits", "processed_logits"])
def test_an_engine_that_gives_logits(mode: str) -> None:
    assert "field '--logprobs-mode': scoring needs log-prob" in refused(Engine(mode=mode))


def test_an_engine_that_takes_no_request() -> None:
    said = refused(Engine(queued=0))
    assert said == "field '--max-num-queued-tokens': 0 refuses every request"


def test_an_engine_that_leaves_out_rows_of_its_last_layers() -> None:
    assert "pass --no-swa-bounded-replay" in refused(Engine())
