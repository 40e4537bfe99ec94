"""A request past `AsyncLLM.generate` is answered, fails and is given up like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor

from engine.server.vllm.direct_requests import direct_requests
from engine.server.vllm.pair_paths import one_token


class Core:
    """Takes requests and aborts; what it would answer is up to the test."""

    def __init__(self) -> None:
        self.requests: list[EngineCoreRequest] = []
        self.aborted: list[str] = []
        self.resources = SimpleNamespace(engine_dead=False)

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        self.requests.append(request)

    async def abort_requests_async(self, names: list[str]) -> None:
        self.aborted += names

    def shutdown(self, timeout: float | None = None) -> None:
        pass


def too_large(token_ids: list[int]) -> None:
    if max(token_ids) > 999:
        raise VLLMValidationError("out of vocabulary")


def client_of(core: Core) -> Any:
    client: Any = AsyncLLM.__new__(AsyncLLM)
    client.engine_core = core
    client.output_processor = OutputProcessor(None, log_stats=False)
    client.output_handler = SimpleNamespace(done=lambda: False, get_loop=lambda: None)
    client.log_requests = False
    client.scheduler_config = SimpleNamespace(max_num_queued_reqs=None, max_num_queued_tokens=None)
    client.renderer = SimpleNamespace(validate_token_ids=too_large, shutdown=lambda: None)
    client.vllm_config = SimpleNamespace(
        kv_transfer_config=None, cache_config=SimpleNamespace(kv_sharing_fast_prefill=False)
    )
    client.shutdown = lambda timeout=None: None
    return client


def asked(client: Any, token_ids: list[int]) -> Coroutine[Any, Any, RequestOutput]:
    direct = direct_requests(client)
    assert direct is not None
    return direct.run(token_ids, one_token(), "salt", 1)


def answer(client: Any, request: EngineCoreRequest) -> None:
    output = EngineCoreOutput(request.request_id, [7], finish_reason=FinishReason.LENGTH)
    client.output_processor.process_outputs([output])


async def begun(client: Any, token_ids: list[int]) -> asyncio.Task[RequestOutput]:
    running = asyncio.create_task(asked(client, token_ids))
    await asyncio.sleep(0)
    return running


def test_answers_reach_those_who_asked() -> None:
    async def both() -> None:
        client = client_of(core := Core())
        first, second = await begun(client, [1, 2]), await begun(client, [3])
        for request in reversed(core.requests):
            answer(client, request)
        for running, prompt in ((first, [1, 2]), (second, [3])):
            output = await running
            assert (output.prompt_token_ids, output.finished) == (prompt, True)
            assert output.outputs[0].token_ids == [7]
        assert not client.output_processor.has_unfinished_requests()
        assert not client.output_processor.external_req_ids
        names = {request.request_id for request in core.requests}
        assert len(names) == 2
        assert [each.cache_salt for each in core.requests] == ["salt"] * 2
        assert [each.data_parallel_rank for each in core.requests] == [1, 1]
        assert not core.aborted

    asyncio.run(both())


def test_who_stops_waiting_stops_the_engine() -> None:
    async def cancelled() -> None:
        client = client_of(core := Core())
        running = await begun(client, [1, 2])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert core.aborted == [core.requests[0].request_id]
        assert not client.output_processor.has_unfinished_requests()
        answer(client, core.requests[0])  # one that came too late is nobody's

    asyncio.run(cancelled())


@pytest.mark.parametrize(("error", "aborted"), [(EngineDeadError(), 0), (ValueError("so"), 1)])
def test_what_fails_in_the_engine_fails_here(error: Exception, aborted: int) -> None:
    async def failed() -> None:
        client = client_of(core := Core())
        running = await begun(client, [1, 2])
        client.output_processor.propagate_error(error)
        with pytest.raises(type(error)):
            await running
        assert len(core.aborted) == aborted

    asyncio.run(failed())


def test_nothing_is_asked_of_a_dead_engine_or_with_tokens_that_are_none() -> None:
    client = client_of(core := Core())
    with pytest.raises(VLLMValidationError):
        asyncio.run(asked(client, [1000]))
    core.resources.engine_dead = True
    with pytest.raises(EngineDeadError):
        asyncio.run(asked(client, [1]))
    assert not core.requests


def test_other_clients_are_asked_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(Core())
    assert direct_requests(client) is direct_requests(client)
    assert direct_requests(SimpleNamespace(vllm_config=client.vllm_config)) is None
    client.vllm_config.cache_config.kv_sharing_fast_prefill = True
    assert direct_requests(client) is None
    monkeypatch.setattr("vllm.__version__", "9.9.9")
    assert direct_requests(client_of(Core())) is None
